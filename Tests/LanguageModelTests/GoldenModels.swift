import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import LanguageModel

/// A model of Tests/Golden/models, which tools/reference/models/make.py made with the reference library.
struct GoldenModel: Sendable, CustomTestStringConvertible {
    var name: String

    static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Golden/models").path
    static let all: [GoldenModel] = {
        let bytes = try! FileTree.bytes(directory + "/index.json")
        let index = try! JSONValue.parse(bytes, path: "index.json")
        return index["cases"]!.array!.map { GoldenModel(name: $0["name"]!.string!) }
    }()

    var testDescription: String { name }
    var path: String { GoldenModel.directory + "/" + name }

    /// What the reference made of one input.
    struct Sample {
        var tokens: [Int32]
        var logits: [Float]
        var entropy: [Float]
    }

    func samples() throws -> [Sample] {
        let contents = try CheckpointContents(path: path + "/expected.safetensors")
        let reader = try contents.makeReader()
        func values<T>(_ name: String, _ type: T.Type) throws -> [T] {
            let entry = try #require(contents.tensors.first { $0.name == name })
            return try reader.withBytes(of: entry, 0..<entry.byteCount) { bytes in
                (0..<bytes.count / MemoryLayout<T>.size).map {
                    bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)
                }
            }
        }
        return try (0..<2).map { index in
            Sample(
                tokens: try values("input_ids.\(index)", Int32.self), logits: try values("logits.\(index)", Float.self),
                entropy: try values("entropy.\(index)", Float.self))
        }
    }

    /// The model under another configuration: `edit` changes the text of config.json.
    func model(config: String = "config.json", edit: (String) -> String = { $0 }) throws -> LanguageModel {
        let text = String(decoding: try FileTree.bytes(path + "/" + config), as: UTF8.self)
        return try LanguageModel(
            CheckpointContents(path: path + "/model.safetensors"), config: Array(edit(text).utf8), path: config, longest: 64)
    }

    /// Largest difference of a logit, and of the mean entropy of a sample.
    func differences(_ model: LanguageModel) throws -> (logit: Float, entropy: Double) {
        var logit: Float = 0
        var entropy = 0.0
        for sample in try samples() {
            let logits = try model.logits(sample.tokens)
            #expect(logits.count == sample.logits.count)
            for (ours, theirs) in zip(logits, sample.logits) {
                logit = ours.isNaN ? .infinity : max(logit, abs(ours - theirs))
            }
            let ours = try model.score([ScoringSample(tokens: sample.tokens + [0], supervised: [1..<sample.tokens.count + 1])])
            let mean = ours[0].entropy.reduce(0) { $0 + Double($1) } / Double(sample.entropy.count)
            let wanted = sample.entropy.reduce(0) { $0 + Double($1) } / Double(sample.entropy.count)
            entropy = mean.isNaN ? .infinity : max(entropy, abs(mean - wanted))
        }
        return (logit, entropy)
    }
}

extension LanguageModel {
    /// The same weights under an architecture that was changed.
    init(_ model: LanguageModel, architecture: any Architecture) {
        self = model
        self.architecture = architecture
    }
}

extension PreNormDecoder {
    func changingLayers(_ change: (inout Layer) -> Void) -> PreNormDecoder {
        var copy = self
        for index in copy.layers.indices { change(&copy.layers[index]) }
        return copy
    }
}
