import CheckpointReports
import CheckpointStore
import LanguageModel

/// Figures that another program made, taken into the record of a snapshot.
struct EntropyImport {
    static let help = """
        --import takes figures that another program made, on a GPU say. FILE is JSON lines. The first is

          {"provenance": {"program": "...", "device": "..."},
           "settings": {"precision": "f32"}}

        and each other one a sample's figures, one for each supervised token, in nats:

          {"id": "7", "entropy": [...], "nll": [...], "top1": [token ids]}

        A "snapshot" in the provenance, all 64 digits of its id, must be that of REF.
        With the settings {"precision": "f32"} (and "max_length", where samples were cut) the record is the one that ckpt entropy, gap
        and diff --probe use, and must have just these columns. {"precision": "f32", "weak": REF, "lambda": 0.5} with
        kl_strong_weak, kl_weak_strong, ln_c and hard_negatives is that of a pair. All other settings are kept apart;
        ckpt probe show lists them. tools/reference/models/score.py makes such files.
        """

    private let name: String
    private let samples: Int
    private let record: EntropyRecord
    private let outputs: [SampleOutputs]

    /// - Throws: `StoreError`; the store is unchanged then.
    init(_ store: Store, _ ref: String, probe name: String, _ path: String) throws(StoreError) {
        self.name = ref
        // A ref that names nothing is told before the file is read.
        _ = try store.snapshot(ref)
        let file = try EntropyFile(path, probe: store.probe(name).probe)
        samples = file.outputs.count
        record = try store.importRecord(file, of: ref, on: name, name: path)
        outputs = try store.outputs(of: record.key)
    }

    /// Whether commands use the record.
    private var isUsed: Bool { RecordSettings.columns(under: record.key.settings) != nil }

    var text: String {
        func list(_ texts: [String: String]) -> String { texts.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ") }
        let floats = record.columns.filter { $0 != .top1 }
        let means = floats.enumerated().map { index, column in "\(column.name) \(Format.fixed(mean(index), 4))" }
        var lines = [
            "\(name): \(Format.count(samples, "sample")) taken in; the record has \(record.samplesDone) of \(record.samplesTotal), \(record.tokens) tokens",
            "settings    \(list(record.key.settings))", "provenance  \(list(record.provenance))",
            "columns     \(record.columns.map(\.name).joined(separator: ", "))",
            "means       \(means.joined(separator: ", "))",
        ]
        if !isUsed { lines.append("kept apart: ckpt entropy, gap and diff --probe do not use figures under these settings") }
        return lines.map(Console.printable).joined(separator: "\n")
    }

    var json: JSONOutput {
        [
            "snapshot": .string("\(record.key.snapshot)"), "probe": .string("\(record.key.probe)"),
            "imported_samples": .int(samples), "samples_done": .int(record.samplesDone), "samples_total": .int(record.samplesTotal),
            "tokens": .int(record.tokens), "columns": .strings(record.columns.map(\.name)),
            "settings": .texts(record.key.settings), "provenance": .texts(record.provenance), "used": .bool(isUsed),
        ]
    }

    /// The mean over samples of their means over tokens.
    private func mean(_ column: Int) -> Double {
        let scored = outputs.filter { $0.count > 0 }
        let means = scored.map { output in output.values[column].reduce(0) { $0 + Double($1) } / Double(output.count) }
        return means.reduce(0, +) / Double(max(1, means.count))
    }
}
