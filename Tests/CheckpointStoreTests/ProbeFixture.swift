import CheckpointStore
import TestSupport

/// Probes and outputs of any size, and a store with a snapshot for them to be about.
enum ProbeFixture {
    /// Two samples, one of them of several turns; never changed, since ids of it are pinned.
    static func small() throws -> Probe {
        try Probe(
            samples: [
                ProbeSample(id: "a", tokens: [1, 15, 16, 2], supervised: [2..<4], prompt: "2 + 2", completion: " = 4"),
                ProbeSample(id: "b\u{e9}", tokens: [1, 300, 15, 16, 31_999, 2], supervised: [1..<2, 4..<6]),
            ],
            tokenizer: ContentID.hash(of: Array("tokenizer".utf8)),
            pieces: [1: Array("<s>".utf8), 15: [0x32], 31_999: [0xC3]])
    }

    static func random(seed: UInt64, samples: Int, tokens: ClosedRange<Int> = 2...60) throws -> Probe {
        var random = SeededBytes(seed)
        return try Probe(
            samples: (0..<samples).map { index in
                let count = Int.random(in: tokens, using: &random)
                let start = Int.random(in: 1..<count, using: &random)
                return ProbeSample(
                    id: "s\(index)", tokens: (0..<count).map { _ in Int32.random(in: 0..<32_000, using: &random) },
                    supervised: [start..<count], prompt: index % 2 == 0 ? "prompt \(index)" : nil)
            })
    }

    /// Figures for all samples of `probe`, or fewer tokens of each.
    static func outputs(
        _ probe: Probe, _ columns: Set<EntropyColumn>, seed: UInt64, atMost: Int = .max
    ) -> [SampleOutputs] {
        var random = SeededBytes(seed)
        let floats = columns.filter { $0 != .top1 }.count
        return probe.samples.enumerated().map { index, sample in
            let count = min(atMost, sample.supervisedCount)
            return SampleOutputs(
                sample: index,
                values: (0..<floats).map { _ in (0..<count).map { _ in Float.random(in: 0..<12, using: &random) } },
                top1: columns.contains(.top1) ? (0..<count).map { _ in UInt32.random(in: 0..<32_000, using: &random) } : [])
        }
    }
}

extension StoreFixture {
    /// The id of a small snapshot, `run`@`step`.
    @discardableResult
    func snapshot(seed: UInt64 = 1, run: String = "r", step: UInt64 = 1) throws -> ContentID {
        try ingest(SafetensorsFixture.model(seed: seed).bytes, run: run, step: step).id
    }

    /// A record of all columns with outputs for every sample.
    @discardableResult
    func record(
        _ snapshot: ContentID, _ probe: Probe, settings: [String: String] = [:], columns: Set<EntropyColumn> = [.entropy, .nll, .top1],
        seed: UInt64 = 5
    ) throws -> EntropyKey {
        let key = EntropyKey(snapshot: snapshot, probe: probe.id, settings: settings)
        try store.beginEntropyRecord(key, columns: columns, provenance: ["program": "test"])
        try store.appendOutputs(ProbeFixture.outputs(probe, columns, seed: seed), to: key)
        return key
    }
}
