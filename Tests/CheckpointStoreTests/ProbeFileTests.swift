import CheckpointStore
import Foundation
import TestSupport
import Testing

/// Files of samples and of outputs: what is taken, and how refusals name the place.
@Suite struct ProbeFileTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func read(_ text: String, keys: ProbeFile.TextKeys? = nil) throws -> [ProbeLine] {
        try FileTree.write(text, to: directory.path + "/f.jsonl")
        return try ProbeFile.read(directory.path + "/f.jsonl", keys: keys)
    }

    @Test func everyForm() throws {
        let lines = try read(
            """
            \u{FEFF}{"id": "t", "prompt": "2 + 2", "completion": " = 4", "source": 1}\r
            \r
              {"id": 7, "messages": [{"role": "user", "content": "2?"}, {"role": "assistant", "content": "4"}]}
            {"id": -1, "input_ids": [1, 15, 16, 2], "completion_start": 2}

            {"input_ids": [0, 2147483647], "completion_start": 1, "id": null}
            """)
        #expect(lines.map(\.id) == ["t", "7", "-1", "6"])
        #expect(lines[0].content == .text(prompt: "2 + 2", completion: " = 4"))
        #expect(lines[1].content == .messages([.init(role: "user", content: "2?"), .init(role: "assistant", content: "4")]))
        #expect(lines[2].sample == ProbeSample(id: "-1", tokens: [1, 15, 16, 2], supervised: [2..<4]))
        #expect(lines[0].sample == nil && lines[1].sample == nil)
        #expect(lines.map { $0.place.split(separator: ":").last! } == ["1", "3", "4", "6"])

        let probe = try Probe(lines: lines, tokenizer: ContentID.hash(of: [1]), piece: { $0 == 15 ? [0x32] : nil }) { line in
            ProbeSample(id: line.id, tokens: [9, 9], supervised: [1..<2], prompt: line.place)
        }
        #expect(probe.samples.map(\.tokens) == [[9, 9], [9, 9], [1, 15, 16, 2], [0, .max]])
        #expect(probe.pieces == [15: [0x32]])
    }

    /// GSM8K as it is published.
    @Test func otherKeys() throws {
        let text = "{\"question\": \"How many?\", \"answer\": \"#### 4\", \"input_ids\": 3}\n"
        let lines = try read(text, keys: .init(prompt: "question", completion: "answer"))
        #expect(lines.map(\.id) == ["1"] && lines[0].content == .text(prompt: "How many?", completion: "#### 4"))
    }

    @Test(arguments: [
        ("", "no samples"), ("\n \n", "no samples"), ("{\"id\": 1", "f.jsonl:1"), ("{}\n", "\"prompt\" is missing"), ("[1]", "f.jsonl:1: not a JSON object"),
        ("{\"prompt\": 1, \"completion\": \"\"}", "\"prompt\" is no text"), ("{\"prompt\": \"\"}", "\"completion\" is missing"),
        ("{\"input_ids\": [1, 2]}", "\"completion_start\" is missing"), ("{\"input_ids\": 1, \"completion_start\": 1}", "is no list"),
        ("{\"input_ids\": [1, 2], \"completion_start\": 0}", "within 1 to 1"), ("{\"input_ids\": [1, 2], \"completion_start\": 2}", "within 1 to 1"),
        ("{\"input_ids\": [1], \"completion_start\": 1}", "\"completion_start\""), ("{\"input_ids\": [], \"completion_start\": 1}", "\"completion_start\""),
        ("{\"input_ids\": [1, -2], \"completion_start\": 1}", "at 1: not a token id"),
        ("{\"input_ids\": [1, 2147483648], \"completion_start\": 1}", "at 1: not a token id"),
        ("{\"input_ids\": [1, 2.5], \"completion_start\": 1}", "at 1: not a token id"),
        ("{\"messages\": {}}", "is no list"), ("{\"messages\": [{\"role\": \"user\"}]}", "at 0"),
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}", "no assistant"),
        ("{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\", \"tool_calls\": []}]}", "\"tool_calls\" is not supported"),
        ("{\"messages\": [{\"role\": \"assistant\", \"content\": \"x\"}], \"tools\": [{}]}", "\"tools\" is not supported"),
        ("{\"id\": [], \"prompt\": \"\", \"completion\": \"\"}", "\"id\""), ("{\"id\": \"\", \"prompt\": \"\", \"completion\": \"\"}", "\"id\""),
        ("{\"id\": 2, \"prompt\": \"\", \"completion\": \"\"}\n{\"prompt\": \"\", \"completion\": \"\"}", "f.jsonl:1 too"),
    ]) func refused(_ text: String, _ words: String) throws {
        let error = try #require(throws: StoreError.self) { try read(text) }
        #expect(error.code == .badInput && error.description.contains(words) && error.description.contains("f.jsonl"), "\(error)")
        #expect(!error.description.contains("\n"))
    }

    @Test func missingFile() throws {
        for path in [directory.path, directory.path + "/nothing"] {
            #expect { try ProbeFile.read(path) } throws: { ($0 as? StoreError)?.code == .badInput }
        }
    }

    // MARK: Outputs made elsewhere

    private static let head = "{\"provenance\": {\"program\": \"x\", \"n\": 2}, \"settings\": {\"lambda\": 0.5, \"fp32\": true}}\n"

    private func fixture() throws -> (StoreFixture, ContentID) {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        try fixture.store.addProbe(ProbeFixture.small(), name: "p")
        return (fixture, snapshot)
    }

    private static let rows = """
        {"id": "a", "nll": [0.25, 1e-3], "top1": [15, 4294967295]}
        {"id": "b\u{e9}", "nll": [1, 2, 3], "top1": [1, 2, 3]}
        """

    @Test func outputsOfOthers() throws {
        let (fixture, snapshot) = try fixture()
        let file = fixture.path("outputs.jsonl")
        try FileTree.write(ProbeFileTests.head + ProbeFileTests.rows, to: file)
        let record = try fixture.store.importOutputs(file, of: snapshot, on: "p")
        #expect(record.isComplete && record.columns == [.nll, .top1])
        #expect(record.key.settings == ["lambda": "0.5", "fp32": "true"] && record.provenance == ["program": "x", "n": "2"])
        #expect(try fixture.store.outputs(of: record.key) == [
            SampleOutputs(sample: 0, values: [[0.25, 0.001]], top1: [15, .max]),
            SampleOutputs(sample: 1, values: [[1, 2, 3]], top1: [1, 2, 3]),
        ])
        // Twice is once.
        #expect(try fixture.store.importOutputs(file, of: snapshot, on: "p") == record)
        try fixture.expectWhole()
    }

    @Test(arguments: [
        ("{\"id\": \"a\", \"nll\": [NaN, 1]}", "sample \"a\" holds NaN"), ("{\"id\": \"a\", \"nll\": [1, -Infinity]}", "sample \"a\" holds -Infinity"),
        ("{\"id\": \"a\", \"nll\": [1, 1e39]}", "sample \"a\""), ("{\"id\": \"a\", \"nll\": [1, null]}", "sample \"a\""),
        ("{\"id\": \"a\", \"nll\": [1]}", "2 are supervised"), ("{\"id\": \"a\", \"nll\": [1, 2, 3]}", "2 are supervised"),
        ("{\"id\": \"c\", \"nll\": [1]}", "no such sample"), ("{\"id\": \"a\"}", "columns"), ("{\"id\": \"a\", \"nnl\": [1, 2]}", "\"nnl\" is no column"),
        ("{\"id\": \"a\", \"nll\": 1}", "is no list"), ("{\"id\": \"a\", \"top1\": [1, -1]}", "no token id"),
        ("{\"id\": \"a\", \"nll\": [1, 2]}\n{\"id\": \"a\", \"nll\": [1, 2]}", "given twice"),
        ("{\"id\": \"a\", \"nll\": [1, 2]}\n{\"id\": \"b\u{e9}\", \"entropy\": [1, 2, 3]}", "columns"), ("", "no figures"),
    ]) func refusedOutputs(_ rows: String, _ words: String) throws {
        let (fixture, snapshot) = try fixture()
        let file = fixture.path("outputs.jsonl")
        try FileTree.write(ProbeFileTests.head + rows, to: file)
        try fixture.expectRefusal(.badInput, saying: words) { try fixture.store.importOutputs(file, of: snapshot, on: "p") }
        #expect(try fixture.store.entropyRecords().isEmpty)
    }

    @Test(arguments: ["{}", "{\"provenance\": {}}", "{\"provenance\": {}, \"settings\": []}", "{\"provenance\": {}, \"settings\": {\"a\": null}}",
                      "{\"provenance\": {}, \"settings\": {}, \"id\": 1}"])
    func refusedHeads(_ head: String) throws {
        let (fixture, snapshot) = try fixture()
        let file = fixture.path("outputs.jsonl")
        try FileTree.write(head + "\n" + ProbeFileTests.rows, to: file)
        try fixture.expectRefusal(.badInput, saying: "outputs.jsonl:1") { try fixture.store.importOutputs(file, of: snapshot, on: "p") }
    }
}
