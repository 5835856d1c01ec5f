import TestSupport
import Testing

@testable import LanguageModel

/// Which tokens hold a part of a text.
@Suite struct TokenAlignmentTests {
    private static func text(_ hex: String) -> String {
        String(decoding: TokenizerGolden.unhex(hex).withUnsafeBufferPointer { UTF8Text.repaired($0) }, as: UTF8.self)
    }

    /// Every text of the golden tokenizers, whole and cut in two: the ids stay those of the whole, each token belongs to
    /// a part, and only one that reaches over the border belongs to both.
    @Test(arguments: TokenizerGolden.names)
    func everyTokenHoldsAPart(name: String) throws {
        let family = try #require(try TokenizerGolden.expected.get().families[name])
        let tokenizer = try TokenizerGolden.tokenizer(name)
        var random = SeededGenerator(seed: 3)
        for hex in family.texts {
            let scalars = Array(TokenAlignmentTests.text(hex).unicodeScalars)
            let cut = random.below(scalars.count + 1)
            func string(_ scalars: ArraySlice<UnicodeScalar>) -> String {
                var view = String.UnicodeScalarView()
                view.append(contentsOf: scalars)
                return String(view)
            }
            let whole = string(scalars[...])
            let (ids, ranges) = tokenizer.encode(parts: [whole])
            #expect(ids == tokenizer.encode(whole, addSpecialTokens: false))
            #expect(ranges == [0..<ids.count], "\(hex)")
            let parts = [string(scalars[..<cut]), string(scalars[cut...])]
            let halves = tokenizer.encode(parts: parts)
            #expect(halves.ids == ids)
            // A character before the border may compose with one behind it.
            guard let two = halves.ranges else { continue }
            let covered = two.filter { !$0.isEmpty }
            #expect(covered.first?.lowerBound ?? 0 == 0 && covered.last?.upperBound ?? 0 == ids.count, "\(hex), \(cut)")
            if covered.count == 2 { #expect(0...1 ~= covered[0].upperBound - covered[1].lowerBound, "\(hex), \(cut)") }
        }
    }

    @Test func borders() throws {
        let tokenizer = try TokenizerGolden.tokenizer("llama3")
        let (ids, ranges) = tokenizer.encode(parts: ["<|start_header_id|>", "", "abc<|eot_id|>", "\n"])
        let found = try #require(ranges)
        #expect(found[0] == 0..<1 && found[1].isEmpty && found[2] == 1..<ids.count - 1 && found[3] == ids.count - 1..<ids.count)
        #expect(tokenizer.encode(parts: []).ranges == [])
        #expect(tokenizer.encode(parts: ["", ""]).ranges == [0..<0, 0..<0])
    }

    /// The space that a tokenizer puts before a word goes with the word.
    @Test func spacesOfTheTokenizer() throws {
        let tokenizer = try TokenizerGolden.tokenizer("mistral")
        let (ids, ranges) = tokenizer.encode(parts: ["[/INST]", "\u{4e00}\u{9fff}", "</s>"])
        #expect(tokenizer.piece(ids[1]).first == 0x20)
        #expect(ranges == [0..<1, 1..<ids.count - 1, ids.count - 1..<ids.count])
    }

    /// Without tokens of bytes, one unknown token stands for a run of characters, or each for one.
    @Test(arguments: [true, false]) func unknownCharacters(fused: Bool) throws {
        var json = String(decoding: try TokenizerGolden.bytes("llama2.json"), as: UTF8.self)
        json.replace("\"byte_fallback\":true", with: "\"byte_fallback\":false")
        if !fused { json.replace("\"fuse_unk\":true", with: "\"fuse_unk\":false") }
        let tokenizer = try Tokenizer(json: Array(json.utf8), path: "x")
        let unknown = try #require(tokenizer.id(of: "<unk>"))
        let parts = ["a", "\u{10ffff}\u{1f600} ", "\u{10fffe}", "b<unk>"]
        let (ids, ranges) = tokenizer.encode(parts: parts)
        let found = try #require(ranges)
        #expect(ids.filter { $0 == unknown }.count == (fused ? 3 : 4))
        let held = found.map { ids[$0].filter { $0 == unknown }.count }
        #expect(held == (fused ? [0, 1, 1, 1] : [0, 2, 1, 1]))
    }

    /// An added token that is looked for in normalised text takes the space before it that normalisation puts before itself.
    @Test func normalizedTokens() throws {
        var json = String(decoding: try TokenizerGolden.bytes("llama2-legacy.json"), as: UTF8.self)
        json.replace("\"normalized\":false", with: "\"normalized\":true")
        let tokenizer = try Tokenizer(json: Array(json.utf8), path: "x")
        let end = try #require(tokenizer.id(of: "</s>"))
        let (ids, ranges) = tokenizer.encode(parts: ["a", " </s>", "b"])
        #expect(ids.filter { $0 == end }.count == 1)
        #expect(ranges?.map { ids[$0].contains(end) } == [false, true, false])
        #expect(tokenizer.encode(parts: ["</s>", "b"]).ranges?.first == 0..<1)
    }
}
