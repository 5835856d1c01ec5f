import ArgumentParser
import CheckpointReports
import CheckpointStore
import TensorFormats

struct Show: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a snapshot: where it stands, its files, its tensors.", discussion: ExitStatus.table)

    @Argument(help: "The snapshot.", completion: .snapshot)
    var ref: String
    @Flag(help: "List the tensors too.")
    var tensors = false
    @OptionGroup var options: StoreOptions

    func run() throws {
        let store = try options.open()
        let snapshot = try store.snapshot(ref)
        let steps = try store.steps(of: ref)
        if options.json {
            Console.print(json(snapshot, steps).text)
        } else {
            try print(snapshot, steps, store)
        }
    }

    private func print(_ snapshot: Snapshot, _ steps: [HistoryEntry], _ store: Store) throws {
        Console.print("snapshot  \(snapshot.id)")
        for entry in steps {
            let notes = HistoryFormat.notes(entry)
            Console.print(
                "stands at \(entry.run)@\(entry.step), ingested \(Format.time(entry.ingested)) from \(Console.printable(entry.source))"
                    + (notes.isEmpty ? "" : " (\(notes.joined(separator: ", ")))"))
            if let parent = entry.parent { Console.print("parent    \(parent.short)") }
            if entry.leftOutFiles > 0 {
                Console.print(
                    "optimizer left out: \(Format.count(entry.leftOutFiles, "file")), \(Format.bytes(entry.leftOutBytes)) (--no-optimizer)")
            }
        }
        for line in TrainingNoteFormat.lines(try store.sidecars(ref)) { Console.print(Console.printable(line)) }
        let metrics = try store.metrics(of: ref).sorted { $0.key < $1.key }
        if !metrics.isEmpty {
            Console.print("metrics   " + metrics.map { "\($0.key) \(Format.significant($0.value))" }.joined(separator: ", "))
        }
        for part in snapshot.dropped { Console.print("\(part.kind) dropped: part \(part.id.short)") }
        Console.print("size      \(Format.bytes(snapshot.byteCount)) in \(Format.count(snapshot.files.count, "file"))\n")

        var files = TextTable([
            .init(title: "PART"), .init(title: "FILE", shrinks: true), .init(title: "SIZE", isNumber: true),
            .init(title: "FORMAT"), .init(title: "TENSORS", isNumber: true),
        ])
        for part in snapshot.parts {
            for file in part.files {
                files.add([
                    "\(part.kind)", file.path + (file.isDirectory ? "/" : ""), Format.bytes(file.size),
                    file.isDirectory ? "directory" : "\(file.format)", file.tensors.isEmpty ? "" : "\(file.tensors.count)",
                ])
            }
        }
        Console.print(files.text(width: Console.width))
        guard tensors else { return }
        var table = TextTable([
            .init(title: "TENSOR", shrinks: true), .init(title: "DTYPE"), .init(title: "SHAPE"),
            .init(title: "SIZE", isNumber: true), .init(title: "STORED AS"),
        ])
        for tensor in snapshot.tensors {
            table.add([
                tensor.name, tensor.dtype.name, "[\(tensor.shape.map(String.init).joined(separator: ", "))]",
                Format.bytes(tensor.byteCount), tensor.storage?.short ?? "",
            ])
        }
        Console.print("\n" + table.text(width: Console.width))
    }

    private func json(_ snapshot: Snapshot, _ steps: [HistoryEntry]) -> JSONOutput {
        var members: [(String, JSONOutput)] = [
            ("id", .string("\(snapshot.id)")), ("raw_bytes", .unsigned(snapshot.byteCount)),
            ("steps", .array(steps.map(\.json))),
            (
                "parts",
                .array(
                    snapshot.parts.map { part in
                        [
                            "kind": .string("\(part.kind)"), "raw_bytes": .unsigned(part.byteCount),
                            "files": .array(part.files.map(json)),
                        ]
                    })
            ),
            ("dropped", .array(snapshot.dropped.map { ["kind": .string("\($0.kind)"), "id": .string("\($0.id)")] })),
        ]
        if tensors { members.append(("tensors", .array(snapshot.tensors.map(json)))) }
        return .object(members)
    }

    private func json(_ file: PartManifest.File) -> JSONOutput {
        [
            "path": .string(file.path), "raw_bytes": .unsigned(file.size),
            "format": .string(file.isDirectory ? "directory" : "\(file.format)"), "tensors": .int(file.tensors.count),
        ]
    }

    private func json(_ tensor: TensorEntry) -> JSONOutput {
        [
            "name": .string(tensor.name), "file": .string(tensor.file), "part": .string("\(tensor.part)"),
            "dtype": .string(tensor.dtype.name), "shape": .shape(tensor.shape),
            "strides": tensor.strides.map { .shape($0) } ?? .null, "raw_bytes": .unsigned(tensor.byteCount),
            "storage": .optional(tensor.storage.map { "\($0)" }), "storage_offset": .unsigned(tensor.storageOffset),
        ]
    }
}
