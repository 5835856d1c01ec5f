import Foundation
import TestSupport
import Testing

/// `ckpt probe add` with samples that come as text.
@Suite struct ProbeTextTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private let directory: TemporaryDirectory
    private var store: String { directory.path + "/store" }

    init() throws {
        directory = try TemporaryDirectory()
        let made = try Command.run(["init", store])
        try #require(made.status == 0, "\(made)")
    }

    @discardableResult
    private func write(_ text: String, _ name: String) throws -> String {
        let path = directory.path + "/" + name
        try FileTree.write(text, to: path)
        return path
    }

    /// A directory with a golden tokenizer, and what is beside it.
    private func tokenizer(_ family: String, _ files: [String: String] = [:]) throws -> String {
        let source = ProbeTextTests.root.appending(path: "Tests/Golden/tokenizers/\(family).json")
        try write(try String(contentsOf: source, encoding: .utf8), "\(family)/tokenizer.json")
        for (name, text) in files { try write(text, "\(family)/\(name)") }
        return directory.path + "/" + family
    }

    private static func chatML() throws -> String {
        try String(contentsOf: root.appending(path: "tools/reference/chat/chatml.jinja"), encoding: .utf8)
    }

    private func run(_ arguments: String...) throws -> Command.Outcome {
        try Command.run(arguments + ["--store", store], in: directory.path)
    }

    private func rows(_ probe: String) throws -> [[String: Any]] {
        let shown = try run("probe", "show", probe, "--json").json() as? [String: Any]
        return try #require(shown?["rows"] as? [[String: Any]])
    }

    @Test func textIsTokenised() throws {
        try write(
            """
            {"id": "a", "prompt": "2 + 2", "completion": " = 4"}
            {"id": "b", "input_ids": [1, 7, 8, 2], "completion_start": 2}
            """, "p.jsonl")
        let tokenizer = try tokenizer("llama2", ["config.json": "{\"eos_token_id\": 2}"])
        let added = try run("probe", "add", "p", "p.jsonl", "--tokenizer", tokenizer)
        #expect(added.status == 0 && added.errors == "" && added.output.contains("2 samples"), "\(added)")
        let rows = try rows("p")
        let ids = try #require(rows[0]["input_ids"] as? [Int])
        #expect(ids.first == 1 && ids.last == 2 && ids.filter { $0 == 1 || $0 == 2 }.count == 2)
        #expect(rows[0]["prompt"] as? String == "2 + 2" && rows[0]["completion"] as? String == " = 4")
        #expect(rows[1]["input_ids"] as? [Int] == [1, 7, 8, 2] && rows[1]["prompt"] is NSNull)
        let text = try run("probe", "show", "p").output
        #expect(text.contains("tokenizer  ") && text.contains("2 + 2") && text.contains(" = 4"), "\(text)")
        let list = try run("probe", "ls").output
        #expect(list.contains("\(ids.count + 4)"), "\(list)")
        // The same again changes nothing; without the ends it is another probe.
        #expect(try run("probe", "add", "p", "p.jsonl", "--tokenizer", tokenizer).status == 0)
        let other = try run("probe", "add", "p", "p.jsonl", "--tokenizer", tokenizer, "--no-eos")
        #expect(other.status == 65 && other.errorLines.count == 1 && other.errors.contains("hint: "), "\(other)")
    }

    /// The tokenizer of a snapshot is that of the directory it was taken from, in the store and out of it.
    @Test func tokenizerOfASnapshot() throws {
        try write("{\"question\": \"How many?\", \"answer\": \"#### 4\"}\n", "gsm.jsonl")
        try FakeTrainer.write(step: 1, seed: 1, to: directory.path + "/out")
        let source = ProbeTextTests.root.appending(path: "Tests/Golden/tokenizers/llama3.json")
        let text = try String(contentsOf: source, encoding: .utf8)
        for (name, text) in [
            ("tokenizer.json", text), ("tokenizer_config.json", "{\"eos_token\": \"<|end_of_text|>\"}"),
            ("generation_config.json", "{}"), ("config.json", "{}"),
        ] { try write(text, "out/checkpoint-1/\(name)") }
        #expect(try run("ingest", "out").status == 0)
        let keys = ["--prompt-key", "question", "--completion-key", "answer", "--store", store]
        for (name, source) in [("a", "out@1"), ("b", directory.path + "/out/checkpoint-1")] {
            let added = try Command.run(["probe", "add", name, "gsm.jsonl", "--tokenizer", source] + keys, in: directory.path)
            #expect(added.status == 0, "\(added)")
        }
        let list = try run("probe", "ls", "--json").json() as? [[String: Any]]
        #expect(list?.count == 2 && list?[0]["id"] as? String == list?[1]["id"] as? String)
    }

    @Test func conversations() throws {
        try write(
            """
            {"id": "m", "messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"},
            """.replacing("\n", with: "") + " {\"role\": \"user\", \"content\": \"5?\"}, {\"role\": \"assistant\", \"content\": \"No.\"}]}\n",
            "m.jsonl")
        let tokenizer = try tokenizer("qwen2", ["chat_template.jinja": ProbeTextTests.chatML()])
        let added = try run("probe", "add", "m", "m.jsonl", "--tokenizer", tokenizer)
        #expect(added.status == 0, "\(added)")
        let row = try #require(try rows("m").first)
        #expect((row["supervised"] as? [[Int]])?.count == 2)
        #expect((row["prompt"] as? String)?.hasSuffix("5?<|im_end|>\n<|im_start|>assistant\n") == true)
        #expect(row["completion"] as? String == "No.<|im_end|>")
        #expect(try run("probe", "show", "m").output.contains("No.<|im_end|>"))
    }

    private func expectRefusal(_ arguments: [String], _ words: String...) throws {
        let outcome = try Command.run(["probe", "add", "p"] + arguments + ["--store", store], in: directory.path)
        #expect(outcome.status == 65 && outcome.output == "" && outcome.errorLines.count == 1, "\(outcome)")
        for word in words + ["hint: "] { #expect(outcome.errors.contains(word), "\(outcome.errors)") }
        #expect(try run("probe", "ls").output == "")
    }

    @Test func refusals() throws {
        let text = try write("{\"prompt\": \"a\", \"completion\": \"b\"}\n\n{\"id\": \"x\", \"prompt\": \"a\", \"completion\": \"\"}\n", "t.jsonl")
        let chat = try write("{\"messages\": [{\"role\": \"assistant\", \"content\": \"4\"}]}\n", "c.jsonl")
        let bare = try tokenizer("llama2")
        let ended = try tokenizer("mistral", ["config.json": "{\"eos_token_id\": 2}", "chat_template.jinja": "{{ messages }}"])
        try expectRefusal([text], "t.jsonl:1: sample \"1\" is text", "--tokenizer DIR")
        try expectRefusal([text, "--tokenizer", bare], "t.jsonl:1: sample \"1\"", "end of sequence", "--no-eos")
        try expectRefusal([chat, "--tokenizer", bare], "c.jsonl:1: sample \"1\"", "has no chat template")
        try expectRefusal([chat, "--tokenizer", ended], "c.jsonl:1: sample \"1\"", "is not known", "python3 -c '", "c.jsonl > tokens.jsonl")
        try FileTree.write("{}", to: directory.path + "/empty/config.json")
        try expectRefusal([text, "--tokenizer", directory.path + "/empty"], "tokenizer.json: not there", "save_pretrained")
        let outcome = try run("probe", "add", "p", text, "--tokenizer", ended)
        #expect(outcome.status == 65 && outcome.errors.contains("t.jsonl:3: sample \"x\": the completion has no token"), "\(outcome)")
        let nowhere = try run("probe", "add", "p", text, "--tokenizer", "nowhere")
        #expect(nowhere.status == 66 && nowhere.errorLines.count == 1, "\(nowhere)")
    }
}
