import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// A directory with a golden tokenizer and files beside it.
struct TokenizerDirectory {
    let directory: TemporaryDirectory
    var path: String { directory.path }

    init(_ family: String, _ files: [String: String] = [:]) throws {
        directory = try TemporaryDirectory()
        try Data(TokenizerGolden.bytes("\(family).json")).write(to: URL(filePath: path + "/tokenizer.json"))
        for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: path + "/" + name)) }
    }

    func samples(appendsEnd: Bool = true) throws -> SampleTokenizer {
        try SampleTokenizer(Sidecars(directory: path), appendsEnd: appendsEnd)
    }
}

@Suite struct SampleTokenizerTests {
    private static let ends = ["config.json": "{\"eos_token_id\": 2}"]

    private func line(_ prompt: String, _ completion: String) -> ProbeLine {
        ProbeLine(place: "f:3", id: "7", content: .text(prompt: prompt, completion: completion))
    }

    /// In the llama2 family `<s>` is 1, `</s>` 2 and the tokenizer adds `<s>`.
    @Test func promptAndCompletionAreJoined() throws {
        let samples = try TokenizerDirectory("llama2", SampleTokenizerTests.ends).samples()
        let tokenizer = samples.tokenizer
        let (prompt, completion) = (tokenizer.encode("2 + 2", addSpecialTokens: false), tokenizer.encode(" = 4", addSpecialTokens: false))
        let sample = try samples.sample(line("2 + 2", " = 4"))
        #expect(sample.tokens == [1] + prompt + completion + [2])
        #expect(sample.supervised == [1 + prompt.count..<sample.tokens.count])
        #expect(sample.prompt == "2 + 2" && sample.completion == " = 4" && sample.id == "7")
        #expect(samples.id == ContentID.hash(of: try TokenizerGolden.bytes("llama2.json")))
    }

    @Test func beginningsAndEndsStandOnce() throws {
        let samples = try TokenizerDirectory("llama2", SampleTokenizerTests.ends).samples()
        let once = try samples.sample(line("<s>a", "b</s>"))
        #expect(once.tokens.filter { $0 == 1 }.count == 1 && once.tokens.first == 1)
        #expect(once.tokens.filter { $0 == 2 }.count == 1 && once.tokens.last == 2)
        // One in the middle is text like any other.
        let inside = try samples.sample(line("a<s>", "</s>b"))
        #expect(inside.tokens.filter { $0 == 1 }.count == 2 && inside.tokens.filter { $0 == 2 }.count == 2)
        let without = try TokenizerDirectory("llama2").samples(appendsEnd: false).sample(line("a", "b"))
        #expect(!without.tokens.contains(2))
    }

    /// A list of ends: the first is appended, any is one. The nearest file counts.
    @Test(arguments: [
        (["generation_config.json": "{\"eos_token_id\": [5, 2]}", "config.json": "{\"eos_token_id\": 1}"], Int32(5), true),
        (["config.json": "{\"eos_token_id\": 6}", "tokenizer_config.json": "{\"eos_token\": \"</s>\"}"], 6, false),
        (["generation_config.json": "{\"eos_token_id\": null}", "tokenizer_config.json": "{\"eos_token\": \"</s>\"}"], 2, true),
        (["tokenizer_config.json": "{\"eos_token\": {\"content\": \"</s>\"}}"], 2, true),
    ]) func whereEndsAreFound(_ files: [String: String], _ end: Int32, _ takesTwo: Bool) throws {
        let samples = try TokenizerDirectory("llama2", files).samples()
        #expect(try samples.sample(line("a", "b")).tokens.last == end)
        #expect(try samples.sample(line("a", "b</s>")).tokens.last == (takesTwo ? 2 : end))
    }

    @Test func emptyTexts() throws {
        let llama = try TokenizerDirectory("llama2", SampleTokenizerTests.ends).samples()
        let begun = try llama.sample(line("", "b"))
        #expect(begun.supervised == [1..<begun.tokens.count])
        // Without a beginning of sequence the first token of all has nothing to be predicted from.
        let qwen = try TokenizerDirectory("qwen2", SampleTokenizerTests.ends).samples()
        let bare = try qwen.sample(line("", "b"))
        #expect(bare.tokens.count == 2 && bare.supervised == [1..<2])
        try refuses("one token with nothing before", "give it a prompt") {
            try TokenizerDirectory("qwen2").samples(appendsEnd: false).sample(line("", "b"))
        }
        for prompt in ["", "a"] {
            try refuses("the completion has no token") { try llama.sample(line(prompt, "")) }
        }
    }

    private func refuses(_ words: String..., by body: () throws -> ProbeSample) throws {
        let error = try #require(throws: LanguageModelError.self) { try body() }
        for word in words + ["f:3", "\"7\""] { #expect(error.description.contains(word), "\(error)") }
        #expect(!error.description.contains("\n"))
    }

    @Test func noEnd() throws {
        try refuses("names no end of sequence", "--no-eos") { try TokenizerDirectory("llama2").samples().sample(line("a", "b")) }
    }

    @Test(arguments: [
        (["config.json": "{\"eos_token_id\": 100000}"], "config.json: eos_token_id"), (["config.json": "{\"eos_token_id\": \"x\"}"], "eos_token_id"),
        (["config.json": "[]"], "config.json"), (["tokenizer_config.json": "{\"eos_token\": 3}"], "eos_token"),
        (["tokenizer_config.json": "{\"eos_token\": \"nowhere\"}"], "\"nowhere\""), (["tokenizer_config.json": "{\"chat_template\": 3}"], "chat_template"),
    ]) func unsoundFiles(_ files: [String: String], _ words: String) throws {
        let error = try #require(throws: LanguageModelError.self) { try TokenizerDirectory("llama2", files).samples() }
        #expect(error.description.contains(words) && !error.description.contains("\n"), "\(error)")
    }

    @Test func noTokenizer() throws {
        let directory = try TemporaryDirectory()
        let error = try #require(throws: LanguageModelError.self) { try SampleTokenizer(Sidecars(directory: directory.path)) }
        #expect(error.code == .missing && error.description.contains("tokenizer.json: not there"), "\(error)")
        #expect(throws: StoreError.self) { try Sidecars(directory: directory.path + "/nowhere") }
    }

    // MARK: Conversations

    /// The chat template of our own.
    private static let chatML = Result {
        let root = TokenizerGolden.directory.deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        return try String(contentsOf: root.appending(path: "tools/reference/chat/chatml.jinja"), encoding: .utf8)
    }

    private func quoted(_ text: String) throws -> String {
        String(decoding: try JSONEncoder().encode(text), as: UTF8.self)
    }

    private func conversation(_ turns: (String, String)...) -> ProbeLine {
        ProbeLine(place: "f:3", id: "7", content: .messages(turns.map { .init(role: $0.0, content: $0.1) }))
    }

    @Test func whereChatTemplatesAreFound() throws {
        let text = try SampleTokenizerTests.chatML.get()
        let quoted = try quoted(text)
        let unknown = try self.quoted("{{ 'nothing' }}")
        for files in [
            ["chat_template.jinja": text], ["chat_template.jinja": String(text.dropLast())],
            ["chat_template.jinja": text, "tokenizer_config.json": "{\"chat_template\": \(unknown)}"],
            ["tokenizer_config.json": "{\"chat_template\": \(quoted)}"],
            ["tokenizer_config.json": "{\"chat_template\": [{\"name\": \"tools\", \"template\": \(unknown)}, {\"name\": \"default\", \"template\": \(quoted)}]}"],
        ] {
            let samples = try TokenizerDirectory("qwen2", files).samples()
            let sample = try samples.sample(conversation(("user", "2?"), ("assistant", "4"), ("user", "3?"), ("assistant", "5 6")))
            #expect(sample.prompt == "<|im_start|>user\n2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\n3?<|im_end|>\n<|im_start|>assistant\n")
            #expect(sample.completion == "5 6<|im_end|>")
            let said = sample.supervised.map { samples.tokenizer.decode(Array(sample.tokens[$0])) }
            #expect(said == ["4<|im_end|>", "5 6<|im_end|>"])
        }
    }

    @Test func templatesThatAreNotKnown() throws {
        let turns = conversation(("user", "2?"), ("assistant", "4"))
        for files in [[:], ["tokenizer_config.json": "{\"chat_template\": [{\"name\": \"tools\", \"template\": \"x\"}]}"]] {
            try refuses("has no chat template") { try TokenizerDirectory("qwen2", files).samples().sample(turns) }
        }
        let files = ["chat_template.jinja": "{{ 'nothing' }}\n", "config.json": "{\"_name_or_path\": \"a/b\"}"]
        var samples = try TokenizerDirectory("qwen2", files).samples()
        samples.unknownTemplateHint = "try this"
        let digits = ContentID.hash(of: Array("{{ 'nothing' }}".utf8)).short
        try refuses("chat template \(digits) (of a/b) is not known", "try this") { try samples.sample(turns) }
    }

    @Test func turnsThatTemplatesDoNotTake() throws {
        let files = ["chat_template.jinja": try SampleTokenizerTests.chatML.get()]
        let samples = try TokenizerDirectory("qwen2", files).samples()
        try refuses("message 1 is of \"tool\"") { try samples.sample(conversation(("user", "a"), ("tool", "b"), ("assistant", "c"))) }
        func write(_ template: any ChatTemplate, _ roles: String..., end: String? = "</s>") throws {
            var text = ChatText(beginning: nil, end: end)
            try template.write(roles.map { .init(role: $0, content: "x") }, to: &text)
        }
        #expect { try write(GemmaChat(takesSystem: true), "user", "assistant") } throws: { "\($0)".contains("bos_token") }
        #expect { try write(TaggedChat(), "user", "assistant", end: nil) } throws: { "\($0)".contains("eos_token") }
        #expect { try write(InstructChat.llama2, "user", "user", "assistant") } throws: {
            "\($0)".contains("message 1 is of \"user\" where the chat template wants \"assistant\"")
        }
        #expect { try write(InstructChat.llama2, "system", "assistant") } throws: { "\($0)".contains("message 1 is of \"assistant\"") }
        #expect { try write(InstructChat.mistral02, "system", "user", "assistant") } throws: { "\($0)".contains("message 0 is of \"system\"") }
    }
}
