#if os(Linux)
import CheckpointStore
import Foundation
import Glibc
import TensorFormats
import TestSupport
import Testing

/// A full disk leaves the store as it was. On a small tmpfs, so as root only.
@Suite struct DiskFullTests {
    /// A tmpfs of `megabytes`, unmounted with the object; nil when this process may not mount.
    private final class SmallDisk {
        let directory: TemporaryDirectory

        init?(megabytes: Int) throws {
            directory = try TemporaryDirectory()
            guard mount("none", directory.path, "tmpfs", 0, "size=\(megabytes)m") == 0 else {
                print("DiskFullTests: skipped, a tmpfs cannot be mounted here")
                return nil
            }
        }

        deinit { umount2(directory.path, Int32(MNT_DETACH)) }

        var usedBytes: Int {
            var status = statvfs()
            statvfs(directory.path, &status)
            return Int(status.f_blocks - status.f_bfree) * Int(status.f_frsize)
        }
    }


    @Test(arguments: [
        (40, []), (40, ["--no-image"]), (11, []), (40, ["--pack", "raw", "--no-image"]), (21, ["--no-image"]), (22, ["--no-image"]),
    ] as [(Int, [String])]) func ingestThatDoesNotFit(_ megabytes: Int, _ arguments: [String]) throws {
        guard let disk = try SmallDisk(megabytes: 24) else { return }
        let sources = try TemporaryDirectory()
        let store = disk.directory.path + "/store"
        try Store.create(at: store)
        let small = sources.path + "/small.safetensors"
        try FileTree.write(SafetensorsFixture.model(seed: 1).bytes, to: small)
        #expect(try Command.run(["ingest", small, "--run", "small", "--step", "1", "--store", store]).status == 0)

        var random = SeededBytes(2)
        let large = sources.path + "/large.safetensors"
        let count = megabytes << 20
        try FileTree.write(SafetensorsFixture([.init("t", .u8, [UInt64(count)], random.bytes(count))]).bytes, to: large)
        let before = try Store.open(store).history().map { "\($0.id) \($0.hasImage)" }
        let used = disk.usedBytes
        let outcome = try Command.run(["ingest", large, "--run", "large", "--store", store] + arguments)
        guard outcome.status != 0 else {
            // Right at the edge it may fit.
            #expect(megabytes < 24)
            return
        }
        #expect(outcome.status == 1 && outcome.errorLines.count == 1 && outcome.errors.contains("No space left on device"), "\(outcome)")
        #expect(outcome.output == "")
        let report = try Store.verify(store, depth: .full)
        #expect(report.problems.map(\.description) == [] && report.pending == 0)
        #expect(try Store.open(store).history().map { "\($0.id) \($0.hasImage)" } == before)
        #expect(disk.usedBytes < used + (2 << 20), "\(used) bytes before, \(disk.usedBytes) after")

        let next = sources.path + "/next.safetensors"
        try FileTree.write(SafetensorsFixture.model(seed: 3).bytes, to: next)
        let again = try Command.run(["ingest", next, "--run", "small", "--step", "2", "--store", store])
        #expect(again.status == 0, "\(again)")
        #expect(try Store.verify(store, depth: .full).problems.isEmpty)
        #expect(try Store.open(store).history().count == 2)
    }

    @Test func compactionThatDoesNotFit() throws {
        guard let disk = try SmallDisk(megabytes: 24) else { return }
        let store = disk.directory.path + "/store"
        try Store.create(at: store)
        let sources = try TemporaryDirectory()
        var random = SeededBytes(1)
        for (step, count) in [(1, 7 << 20), (2, 5 << 20)] {
            let path = sources.path + "/step-\(step).safetensors"
            try FileTree.write(SafetensorsFixture([.init("t", .u8, [UInt64(count)], random.bytes(count))]).bytes, to: path)
            #expect(try Command.run(["ingest", path, "--run", "r", "--step", "\(step)", "--no-image", "--store", store]).status == 0)
        }
        let used = disk.usedBytes
        let outcome = try Command.run(["compact", "--store", store])
        #expect(outcome.status == 1 && outcome.errorLines.count == 1 && outcome.errors.contains("No space left on device"), "\(outcome)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: store).filter { $0.hasPrefix("gen-") } == ["gen-1"])
        #expect(disk.usedBytes <= used)
        #expect(try Store.verify(store, depth: .full).problems.isEmpty)
        // With one of them gone, there is room.
        #expect(try Command.run(["rm", "r@1", "--store", store]).status == 0)
        let again = try Command.run(["compact", "--store", store])
        #expect(again.status == 0, "\(again)")
        #expect(try Store.verify(store, depth: .full).problems.isEmpty)
        #expect(disk.usedBytes < used - (6 << 20))
    }

    /// Not a byte is left: reading works, and so does making room.
    @Test func diskFilledToTheLastByte() throws {
        guard let disk = try SmallDisk(megabytes: 24) else { return }
        let store = disk.directory.path + "/store"
        try Store.create(at: store)
        let sources = try TemporaryDirectory()
        for step in 1...3 {
            let path = sources.path + "/step-\(step).safetensors"
            try FileTree.write(SafetensorsFixture.model(seed: UInt64(step), layers: 8, rows: 256, columns: 256).bytes, to: path)
            #expect(try Command.run(["ingest", path, "--run", "r", "--step", "\(step)", "--store", store]).status == 0)
        }
        let filler = open(disk.directory.path + "/filler", O_CREAT | O_WRONLY, 0o600)
        let page = [UInt8](repeating: 1, count: 4096)
        while write(filler, page, page.count) > 0 {}
        close(filler)
        for arguments in [["log"], ["show", "r@1"], ["stats"], ["verify"]] {
            let outcome = try Command.run(arguments + ["--store", store])
            #expect(outcome.status == 0, "\(outcome)")
        }
        let target = try TemporaryDirectory()
        #expect(try Command.run(["export", "r@2", target.path + "/export", "--store", store]).status == 0)
        let tag = try Command.run(["tag", "t", "r@2", "--store", store])
        #expect(tag.status == 0 || tag.status == 1 && tag.errors.contains("No space left"), "\(tag)")
        let remove = try Command.run(["rm", "r@1", "--store", store])
        #expect(remove.status == 0, "\(remove)")
        let report = try Store.verify(store, depth: .full)
        #expect(report.problems.map(\.description) == [])
        unlink(disk.directory.path + "/filler")
        let path = sources.path + "/step-9.safetensors"
        try FileTree.write(SafetensorsFixture.model(seed: 9).bytes, to: path)
        #expect(try Command.run(["ingest", path, "--run", "r", "--store", store]).status == 0)
        let after = try Store.verify(store, depth: .full)
        #expect(after.problems.isEmpty && after.pending == 0)
    }

    /// Not a byte is left: prune makes room, and gives it back.
    @Test func pruneOnAFullDisk() throws {
        guard let disk = try SmallDisk(megabytes: 24) else { return }
        let store = disk.directory.path + "/store"
        try Store.create(at: store)
        let sources = try TemporaryDirectory()
        var training = FineTune(tensors: 12)
        var originals: [UInt64: [UInt8]] = [:]
        for step in 1...9 as ClosedRange<UInt64> {
            let path = sources.path + "/step.safetensors"
            originals[step] = training.next()
            try FileTree.write(originals[step]!, to: path)
            // Dense, so that whole runs of pages come free, then a chain of deltas.
            let packing = step < 6 ? ["--pack", "dense"] : []
            #expect(try Command.run(["ingest", path, "--run", "r", "--step", "\(step)", "--no-image", "--store", store] + packing).status == 0)
        }
        let filler = open(disk.directory.path + "/filler", O_CREAT | O_WRONLY, 0o600)
        let page = [UInt8](repeating: 1, count: 4096)
        while write(filler, page, page.count) > 0 {}
        close(filler)
        let used = disk.usedBytes
        let outcome = try Command.run(["prune", "--keep-every", "4", "--json", "--store", store])
        #expect(outcome.status == 0, "\(outcome)")
        let result = try #require(try outcome.json() as? [String: Any])
        let returned = try #require(result["returned_bytes"] as? Int)
        #expect(returned > 600_000 && disk.usedBytes <= used - returned / 2, "\(result)")
        #expect((result["rebasing"] as? [String: Any])?["blocks"] as? Int ?? 0 > 0, "\(result)")
        let report = try Store.verify(store, depth: .full)
        #expect(report.problems.map(\.description) == [] && report.pending == 0)
        let opened = try Store.open(store)
        #expect(try opened.history().map(\.step) == [4, 8, 9])
        for step in [4, 8, 9] as [UInt64] {
            let target = try TemporaryDirectory()
            try opened.export("r@\(step)", to: target.path + "/x")
            #expect(Array(try FileTree.contents(of: target.path + "/x").values) == [Data(originals[step]!)])
        }
    }

    /// Figures that do not fit leave the record as it was, and removing it makes room.
    @Test func outputsThatDoNotFit() throws {
        guard let disk = try SmallDisk(megabytes: 24) else { return }
        let path = disk.directory.path + "/store"
        try Store.create(at: path)
        let sources = try TemporaryDirectory()
        try FileTree.write(SafetensorsFixture.model(seed: 1).bytes, to: sources.path + "/model.safetensors")
        let store = try Store.open(path)
        let snapshot = try store.ingest(sources.path + "/model.safetensors", options: IngestOptions())[0].id
        // 90 samples of some 400 KB of figures.
        let probe = try ProbeFixture.random(seed: 1, samples: 90, tokens: 40_000...50_000)
        let key = EntropyKey(snapshot: snapshot, probe: try store.addProbe(probe, name: "p"))
        let columns = Set(EntropyColumn.allCases)
        try store.beginEntropyRecord(key, columns: columns, provenance: [:])
        let outputs = ProbeFixture.outputs(probe, columns, seed: 2)
        try store.appendOutputs(Array(outputs[..<2]), to: key)
        #expect { try store.appendOutputs(outputs, to: key) } throws: { ($0 as? StoreError)?.code == .diskFull }
        #expect(try store.outputs(of: key) == Array(outputs[..<2]))
        #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
        // One by one, until none fits.
        var done = 2
        var failure: StoreError?
        while failure == nil, done < outputs.count {
            do {
                try store.appendOutputs([outputs[done]], to: key)
                done += 1
            } catch {
                failure = error
            }
        }
        #expect(failure?.code == .diskFull && done > 2 && done < outputs.count, "\(done) fitted")
        #expect(try store.entropyRecord(key)?.samplesDone == done)
        #expect(try store.outputs(of: key) == Array(outputs[..<done]))
        #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
        try store.removeProbe("p")
        let report = try Store.verify(path, depth: .full)
        #expect(report.problems.map(\.description) == [] && report.notes == [], "\(report)")
        try store.addProbe(probe, name: "p")
        try store.beginEntropyRecord(key, columns: columns, provenance: [:])
        try store.appendOutputs(Array(outputs[..<(done / 2)]), to: key)
        #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
    }
}
#endif
