import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// Models and samples that are not what they should be are refused: no figure is made up for them.
@Suite struct BrokenModelTests {
    /// A golden model with one number of a tensor changed.
    static func model(_ name: String, _ tensor: String, _ value: Float, in directory: TemporaryDirectory) throws -> LanguageModel {
        let path = directory.path + "/" + UUID().uuidString
        try FileManager.default.copyItem(atPath: GoldenModel(name: name).path, toPath: path)
        try FileManager.default.removeItem(atPath: path + "/expected.safetensors")
        let file = path + "/model.safetensors"
        let entry = try #require(CheckpointContents(path: path).tensors.first { $0.name == tensor })
        var bytes = try FileTree.bytes(file)
        withUnsafeBytes(of: value) { bytes.replaceSubrange(Int(entry.fileOffset)..<Int(entry.fileOffset) + 4, with: $0) }
        try FileTree.write(bytes, to: file)
        return try LanguageModel(CheckpointContents(path: path), longest: 64)
    }

    static let sample = ScoringSample(tokens: [1, 2, 3, 4], supervised: [1..<4], name: "seven")

    @Test(arguments: [Float.nan, .infinity]) func weightsThatAreNoNumbersAreNamedNotScored(_ value: Float) throws {
        let directory = try TemporaryDirectory()
        let broken = try BrokenModelTests.model("llama", "model.norm.weight", value, in: directory)
        let sound = try GoldenModel(name: "llama").model()
        #expect { try broken.score([BrokenModelTests.sample]) } throws: { error in
            "\(error)".contains("seven") && (error as? LanguageModelError)?.code == .malformed
        }
        for (strong, weak) in [(broken, sound), (sound, broken)] {
            var delivered = 0
            #expect(throws: LanguageModelError.self) {
                try strong.score([BrokenModelTests.sample], against: weak, lambda: 0.5) { delivered += $0.count }
            }
            #expect(delivered == 0)
        }
    }

    /// What one sample spoils is not lost for the others of its batch.
    @Test func soundSamplesOfTheSameBatchAreDelivered() throws {
        let directory = try TemporaryDirectory()
        // Only a sequence with token 0 meets it.
        let broken = try BrokenModelTests.model("qwen2", "model.embed_tokens.weight", .nan, in: directory)
        let other = ScoringSample(tokens: [0, 2, 3, 4], supervised: [1..<4], name: "eight")
        var delivered: [Int] = []
        #expect { try broken.score([BrokenModelTests.sample, other]) { delivered += $0.map(\.sample) } } throws: {
            "\($0)".contains("eight")
        }
        #expect(delivered == [0])
    }

    @Test(arguments: [-1, 103, 2_000_000_000] as [Int32], [0, 3]) func everyTokenIsInTheVocabulary(_ token: Int32, _ place: Int) throws {
        let model = try GoldenModel(name: "llama").model()
        var sample = BrokenModelTests.sample
        sample.tokens[place] = token
        #expect { try model.score([sample]) } throws: { ($0 as? LanguageModelError)?.code == .mismatch }
        #expect { try model.score([sample], against: model, lambda: 0.5) { _ in } } throws: {
            ($0 as? LanguageModelError)?.code == .mismatch
        }
    }

    @Test(arguments: [[0..<2], [2..<5], [2..<2], [2..<3, 1..<2], [1..<3, 2..<4]]) func supervisedTokensAreInOrderAndThere(_ ranges: [Range<Int>]) throws {
        let model = try GoldenModel(name: "llama").model()
        let sample = ScoringSample(tokens: [1, 2, 3, 4], supervised: ranges)
        #expect { try model.score([sample]) } throws: { ($0 as? LanguageModelError)?.code == .malformed }
    }

    @Test func tablesOfHostileSizesAreNotMade() throws {
        for (name, from, to) in [
            ("llama", "\"head_dim\": 14", "\"head_dim\": 134217728"),
            ("gpt_neox", "\"partial_rotary_factor\": 0.25", "\"partial_rotary_factor\": 1e9"),
        ] {
            #expect(throws: LanguageModelError.self) {
                try GoldenModel(name: name).model { text in
                    let edited = text.replacingOccurrences(of: from, with: to)
                    #expect(edited != text)
                    return edited
                }
            }
        }
    }

    @Test func ropesThatContradictEachOtherAreRefused() throws {
        for scaling in ["linear", "longrope"] {
            #expect {
                try GoldenModel(name: "llama").model {
                    $0.replacingOccurrences(of: "\"rope_parameters\"", with: "\"rope_scaling\": {\"rope_type\": \"\(scaling)\", \"factor\": 4.0}, \"rope_parameters\"")
                }
            } throws: { ($0 as? LanguageModelError)?.code == .unsupported }
        }
    }
}
