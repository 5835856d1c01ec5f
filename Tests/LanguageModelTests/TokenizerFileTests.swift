import Foundation
import Testing

@testable import LanguageModel

/// Files that no tokenizer wrote: an error of one line each, and memory by what the file has, not by what it says.
@Suite struct TokenizerFileTests {
    /// A small file with one part replaced.
    static func file(
        vocab: String = #"{"a":0,"b":1,"ab":2}"#, merges: String = #"["a b"]"#, model: String = "", parts: String = ""
    ) -> String {
        #"{"version":"1.0"\#(parts),"model":{"type":"BPE"\#(model),"vocab":\#(vocab),"merges":\#(merges)}}"#
    }

    static func error(_ text: String) -> LanguageModelError? {
        do throws(LanguageModelError) {
            _ = try Tokenizer(json: Array(text.utf8), path: "tokenizer.json")
            return nil
        } catch {
            return error
        }
    }

    static func steps(_ part: String, _ list: String, _ step: String, count: Int) -> String {
        #","\#(part)":{"type":"Sequence","\#(list)":[\#(Array(repeating: step, count: count).joined(separator: ","))]}"#
    }

    static func added(_ id: String, _ content: String = "<s>") -> String {
        #","added_tokens":[{"id":\#(id),"content":"\#(content)","single_word":false,"lstrip":false,"rstrip":false,"#
            + #""normalized":false,"special":true}]"#
    }

    static let double = #"{"type":"Replace","pattern":{"String":"a"},"content":"aa"}"#
    static let hostile: [(text: String, words: String)] = [
        (file(vocab: #"{"a":0,"b":1,"ab":2147483646}"#), "an id of 2147483646 among 3 tokens"),
        (file(vocab: #"{"a":0,"b":1,"ab":2147483647}"#), "no number below"),
        (file(vocab: #"{"a":0,"b":1,"ab":1e9}"#), "no number below"),
        (file(vocab: #"{"a":0,"b":1,"ab":-1}"#), "no number below"),
        (file(vocab: #"{"a":0,"b":1,"ab":99999999999999999999999}"#), "no number below"),
        (file(vocab: #"{"a":0,"b":1,"ab":1}"#), "two tokens of id 1"),
        (file(vocab: #"{"a":0,"a":1}"#), "occurs twice"),
        (file(vocab: #"{"a":"0"}"#), "invalid JSON"),
        (file(vocab: "[]"), "a model whose vocabulary is no object"),
        (file(merges: #"["a c"]"#), "not in the vocabulary"),
        (file(merges: #"["b a"]"#), "not in the vocabulary"),
        (file(merges: #"["ab"]"#), "not two tokens"),
        (file(merges: #"["a b a"]"#), "not two tokens"),
        (file(merges: #"[["a"]]"#), "a merge of 1 tokens"),
        (file(merges: #"[["a","b","a"]]"#), "a merge of 3 tokens"),
        (file(merges: #"[7]"#), "expected a string"),
        (file(merges: #"{"a":"b"}"#), "invalid JSON"),
        (file(model: #","unk_token":"x""#), "not in the vocabulary"),
        (file(model: #","line\nbreak":1"#), "line\\n"),
        (file(parts: added("9")), "should be 3"),
        (file(parts: added("-3")), "no id below"),
        (file(parts: added("2147483646")), "should be 3"),
        (file(parts: added("3", "")), "an empty token"),
        (file(parts: #","added_tokens":{}"#), "no array"),
        (file(parts: #","normalizer":{"type":"line\nbreak"}"#), "line\\n"),
        (file(parts: #","normalizer":{"type":"Replace","pattern":{"String":""},"content":"a"}"#), "a pattern that is no text"),
        // Replacements of replacements would make 2^30 of one byte, and a step is a level of recursion.
        (file(parts: steps("normalizer", "normalizers", double, count: 30)), "more than 256 times the length"),
        (file(parts: steps("decoder", "decoders", double, count: 30)), "more than 256 times the length"),
        (
            file(parts: steps("pre_tokenizer", "pretokenizers", #"{"type":"Digits","individual_digits":true}"#, count: 9999)),
            "more than 32 parts"
        ),
        (file(parts: #","padding":\#(String(repeating: "[", count: 100_000))"#), "nested deeper"),
        (file(parts: #","post_processor":{"type":"TemplateProcessing","single":[]}"#), "a template without the text"),
        ("", "invalid JSON"), ("[]", "invalid JSON"), ("{}", "not a tokenizer.json"), ("{\"model\":7}", "invalid JSON"),
    ]

    @Test(arguments: hostile.indices)
    func hostileFilesAreRefused(index: Int) throws {
        let (text, words) = Self.hostile[index]
        let error = try #require(Self.error(text), "\(text.prefix(300))")
        #expect(error.description.contains(words), "\(error)")
        #expect(error.description.hasPrefix("tokenizer.json: "))
        #expect(!error.description.contains("\n"))
    }

    @Test func theSmallFileIsRead() throws {
        #expect(Self.error(Self.file()) == nil)
        #expect(Self.error(Self.file(parts: Self.added("3"))) == nil)
    }

    /// Every cut and every changed byte of a file of each kind: an error or a tokenizer that works.
    @Test(arguments: ["gpt2", "qwen", "llama", "legacy", "gemma"])
    func damagedFilesEndInErrors(name: String) throws {
        let seed = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appending(path: "tools/fuzz/corpus/tokenizer/\(name).json")
        let bytes = [UInt8](try Data(contentsOf: seed))
        #expect(throws: Never.self) { try Tokenizer(json: bytes, path: "whole") }
        for place in bytes.indices {
            #expect(throws: LanguageModelError.self) { try Tokenizer(json: Array(bytes[..<place]), path: "cut") }
            for change: UInt8 in [0x01, 0xff] {
                var changed = bytes
                changed[place] ^= change
                guard let tokenizer = try? Tokenizer(json: changed, path: "changed") else { continue }
                let ids = tokenizer.encode("ab  a\n<s> aabé", addSpecialTokens: true)
                #expect(ids.allSatisfy { 0..<Int32(tokenizer.vocabularyCount) ~= $0 })
                _ = tokenizer.decode(ids)
            }
        }
    }
}
