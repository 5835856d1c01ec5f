import Foundation
import Testing

@testable import LanguageModel

/// The tokenizers of `tools/reference/tokenizers/variants.py`: one thing different in each, or one thing not supported.
@Suite struct TokenizerVariantTests {
    struct Golden: Decodable {
        struct Accepted: Decodable {
            var name: String
            var file: [Int]
            var texts: [String]
            var ids: [[Int32]]
            var decoded: [String]
        }
        struct Refused: Decodable {
            var name: String
            var file: [Int]
            var words: String
        }
        var parts: [String]
        var accepted: [Accepted]
        var refused: [Refused]

        func bytes(_ file: [Int]) -> [UInt8] { file.flatMap { Array(parts[$0].utf8) } }
    }
    static let golden = Result {
        try JSONDecoder().decode(Golden.self, from: Data(TokenizerGolden.bytes("variants.json")))
    }

    @Test func idsAndTextAreTheLibrarys() throws {
        let golden = try Self.golden.get()
        #expect(golden.accepted.count > 45)
        for variant in golden.accepted {
            let tokenizer = try Tokenizer(json: golden.bytes(variant.file), path: variant.name)
            for (index, text) in variant.texts.enumerated() {
                let ids = tokenizer.encode(utf8: TokenizerGolden.unhex(text), addSpecialTokens: true)
                #expect(ids == variant.ids[index], "\(variant.name), text \(index): \(text)")
                let decoded = tokenizer.decode(variant.ids[index])
                #expect(Array(decoded.utf8) == Array(variant.decoded[index].utf8), "\(variant.name), text \(index)")
            }
        }
    }

    @Test func whatIsNotSupportedIsNamed() throws {
        let golden = try Self.golden.get()
        #expect(golden.refused.count > 25)
        for variant in golden.refused {
            let error = #expect(throws: LanguageModelError.self, "\(variant.name)") {
                try Tokenizer(json: golden.bytes(variant.file), path: "tokenizer.json")
            }
            #expect(error?.code == .unsupported)
            #expect(error?.reason.hasPrefix("tokenizer.json: ") == true)
            #expect(error?.reason.contains(variant.words) == true, "\(variant.name): \(error?.reason ?? "")")
            #expect(error?.hint != nil)
        }
    }
}
