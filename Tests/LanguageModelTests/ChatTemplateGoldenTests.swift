import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// Conversations of `tools/reference/chat/make.py`, and what transformers makes of them by the templates of models.
struct ChatGolden: Decodable {
    struct Message: Decodable {
        var role: String
        var content: String
    }
    struct Case: Decodable {
        var error: String?
        var text: String?
        var ids: [Int32]?
        var supervised: [[Int]]?
    }
    struct Template: Decodable {
        var name: String
        var hashes: [String]
        var tokenizer: String
        var bos_token: String?
        var eos_token: String?
        var cases: [String: Case]
    }
    var conversations: [String: [Message]]
    var templates: [Template]

    static let shared = Result {
        let directory = TokenizerGolden.directory.deletingLastPathComponent().appending(path: "chat/expected.json")
        return try JSONDecoder().decode(ChatGolden.self, from: Data(contentsOf: directory))
    }

    static func all() throws -> ChatGolden { try shared.get() }
}

@Suite struct ChatTemplateGoldenTests {
    /// Text, ids and supervised tokens of every conversation, or a refusal where the template raises an exception.
    @Test func conversationsAreWrittenAsTheTemplatesDo() throws {
        let golden = try ChatGolden.all()
        var (written, refused) = (0, 0)
        for template in golden.templates {
            let tokenizer = try TokenizerGolden.tokenizer(template.tokenizer)
            for hash in template.hashes {
                let id = try #require(ContentID(digits: hash))
                let chat = try #require(KnownChatTemplates.named(id), "\(template.name)")
                for (name, wanted) in template.cases {
                    let messages = try #require(golden.conversations[name]).map {
                        ProbeLine.Message(role: $0.role, content: $0.content)
                    }
                    var text = ChatText(beginning: template.bos_token, end: template.eos_token)
                    do {
                        try chat.write(messages, to: &text)
                    } catch {
                        #expect(wanted.error != nil, "\(template.name), \(name): \(error)")
                        refused += 1
                        continue
                    }
                    let whole = text.parts.map(\.text).joined()
                    #expect(Array(whole.utf8) == Array((wanted.text ?? "").utf8), "\(template.name), \(name): \(wanted.error ?? "")")
                    let sample = try tokenizer.sample("x", text)
                    #expect(sample.tokens == wanted.ids, "\(template.name), \(name)")
                    #expect(sample.supervised.map { [$0.lowerBound, $0.upperBound] } == wanted.supervised, "\(template.name), \(name)")
                    written += 1
                }
            }
        }
        #expect(written > 400 && refused > 50, "\(written), \(refused)")
    }

    /// A template that is known but in the golden file nowhere would be one that nothing has compared.
    @Test func everyKnownTemplateIsCompared() throws {
        let compared = try ChatGolden.all().templates.flatMap(\.hashes)
        #expect(Set(KnownChatTemplates.all.keys) == Set(compared))
        #expect(compared.count == Set(compared).count)
    }
}
