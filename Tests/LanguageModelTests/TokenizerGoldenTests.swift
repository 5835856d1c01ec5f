import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// The tokenizers of `tools/reference/tokenizers/make.py`, and what the `tokenizers` library makes of texts with them.
struct TokenizerGolden: Decodable {
    struct Family: Decodable {
        var texts: [String]
        var ids: [[Int32]]
        var decoded: [String]
        var long: String
    }
    var pieces: [String]
    var families: [String: Family]

    static let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "Golden/tokenizers")
    static let expected = Result {
        try JSONDecoder().decode(
            TokenizerGolden.self, from: Data(contentsOf: directory.appending(path: "expected.json")))
    }
    static let names = [
        "gpt2", "llama3", "qwen2", "qwen35", "tekken", "o200k", "olmo2", "neox", "smollm", "odd", "llama2-legacy", "llama2",
        "mistral", "gemma",
    ]

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: directory.appending(path: name)))
    }

    static func tokenizer(_ name: String) throws -> Tokenizer {
        try Tokenizer(json: bytes("\(name).json"), path: "\(name).json")
    }

    static func unhex(_ text: String) -> [UInt8] {
        let digits = Array(text.utf8)
        return stride(from: 0, to: digits.count, by: 2).map {
            UInt8(String(decoding: digits[$0..<$0 + 2], as: UTF8.self), radix: 16)!
        }
    }
}

@Suite struct TokenizerGoldenTests {
    @Test(arguments: TokenizerGolden.names)
    func idsAndTextAreTheLibrarys(name: String) throws {
        let family = try #require(try TokenizerGolden.expected.get().families[name])
        let tokenizer = try TokenizerGolden.tokenizer(name)
        for (index, text) in family.texts.enumerated() {
            let ids = tokenizer.encode(utf8: TokenizerGolden.unhex(text), addSpecialTokens: true)
            #expect(ids == family.ids[index], "text \(index): \(text)")
            #expect(Array(tokenizer.decode(family.ids[index]).utf8) == Array(family.decoded[index].utf8), "text \(index)")
        }
    }

    /// 200 KB, drawn from the pieces and the added tokens as `drawn` in make.py draws them.
    @Test(arguments: TokenizerGolden.names)
    func longTextsHaveTheLibrarysIDs(name: String) throws {
        struct AddedTokens: Decodable {
            struct Token: Decodable { var content: String }
            var added_tokens: [Token]
        }
        let golden = try TokenizerGolden.expected.get()
        let tokenizer = try TokenizerGolden.tokenizer(name)
        let added = try JSONDecoder().decode(AddedTokens.self, from: Data(TokenizerGolden.bytes("\(name).json")))
        let pieces = golden.pieces.map(TokenizerGolden.unhex) + added.added_tokens.map { Array($0.content.utf8) }
        var random = SeededGenerator(seed: 1)
        var (total, hashed): (Int, [UInt8]) = (0, [])
        while total < 200_000 {
            let count = 1 + random.below(40)
            let text = (0..<count).flatMap { _ in pieces[random.below(pieces.count)] }
            total += text.count
            let ids = tokenizer.encode(utf8: text, addSpecialTokens: true)
            for value in [Int32(ids.count)] + ids { withUnsafeBytes(of: value.littleEndian) { hashed += $0 } }
        }
        #expect(ContentID.hash(of: hashed).description == golden.families[name]?.long)
    }

    /// Every character of Unicode, as the library's regular expressions class it and its tables of digits and words.
    @Test func charactersHaveTheLibrarysClasses() throws {
        let runs = try TokenizerGolden.bytes("classes.bin")
        var (character, differing): (UInt32, [UInt32]) = (0, [])
        for place in stride(from: 0, to: runs.count, by: 6) {
            let length = (0..<4).reduce(UInt32(0)) { $0 | UInt32(runs[place + $1]) << UInt32(8 * $1) }
            for value in character..<character + length {
                let isWord = AddedTokens.isWord(value)
                if CharacterClasses.compute(value).rawValue != runs[place + 4] || isWord != (runs[place + 5] == 1) {
                    differing.append(value)
                }
            }
            character += length
        }
        #expect(character == 0x110000)
        #expect(differing == [])
    }
}
