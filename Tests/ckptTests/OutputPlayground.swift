import CheckpointStore
import Foundation
import TestSupport
import Testing

/// A store with two alike models, each with an image, the second with a tokenizer, a third of another vocabulary, and a probe.
struct OutputPlayground {
    let directory: TemporaryDirectory
    let store: String

    static let tokenizer = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Golden/tokenizers/gpt2.json").path

    /// - Parameter samples: of the probe `p`, which has tokens only.
    init(samples: Int = 12, tokens: ClosedRange<Int> = 4...30, vocabulary: Int = 61, width: Int = 16) throws {
        directory = try TemporaryDirectory()
        store = directory.path + "/store"
        try run(["init", store], in: nil)
        for step in 1...2 {
            try TinyModel.write(
                seed: 5, drift: UInt64(step), vocabulary: vocabulary, width: width, to: directory.path + "/m/checkpoint-\(step)")
        }
        try FileTree.write(FileTree.bytes(OutputPlayground.tokenizer), to: directory.path + "/m/checkpoint-2/tokenizer.json")
        try TinyModel.write(seed: 6, vocabulary: vocabulary + 6, to: directory.path + "/other/checkpoint-1")
        for run in ["m", "other"] {
            for step in 1...(run == "m" ? 2 : 1) {
                try self.run(["ingest", directory.path + "/\(run)/checkpoint-\(step)", "--run", run, "--step", "\(step)", "--pin"])
            }
        }
        var random = SeededBytes(9)
        let lines = (0..<samples).map { index -> String in
            let ids = (0..<Int.random(in: tokens, using: &random)).map { _ in Int.random(in: 0..<vocabulary, using: &random) }
            return "{\"id\": \"s\(index)\", \"input_ids\": \(ids), \"completion_start\": \(Int.random(in: 1..<ids.count, using: &random))}"
        }
        try FileTree.write(lines.joined(separator: "\n"), to: directory.path + "/p.jsonl")
        try run(["probe", "add", "p", directory.path + "/p.jsonl"])
    }

    @discardableResult
    private func run(_ arguments: [String], in store: String?) throws -> Command.Outcome {
        let outcome = try Command.run(arguments + (store.map { ["--store", $0] } ?? []))
        try #require(outcome.status == 0, "\(arguments): \(outcome)")
        return outcome
    }

    /// Runs a command that succeeds.
    @discardableResult
    func run(_ arguments: [String]) throws -> Command.Outcome { try run(arguments, in: store) }

    func json(_ arguments: [String]) throws -> [String: Any] {
        try #require(try run(arguments + ["--json"]).json() as? [String: Any])
    }

    /// One line on stderr, nothing on stdout.
    func expectFailure(
        _ status: Int32, _ arguments: [String], saying words: String..., sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let outcome = try Command.run(arguments + ["--store", store])
        #expect(outcome.status == status && outcome.output == "", "\(outcome)", sourceLocation: sourceLocation)
        if status != 64 { #expect(outcome.errorLines.filter { !$0.contains("ckpt: running") && !$0.contains("note:") }.count == 1, "\(outcome)", sourceLocation: sourceLocation) }
        for words in words { #expect(outcome.errors.contains(words), "\(outcome)", sourceLocation: sourceLocation) }
    }

    /// Its records: the number of samples each has.
    func records() throws -> [EntropyRecord] { try Store.open(store).entropyRecords() }
}
