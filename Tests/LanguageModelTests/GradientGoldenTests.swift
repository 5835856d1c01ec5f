import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// A model of Tests/Golden/gradients, with the losses and gradients that tools/reference/models/gradients.py had from autograd in
/// double precision.
struct GradientCase: Sendable, CustomTestStringConvertible {
    var name: String

    static let trainable = [
        "llama", "llama-tied-gqa", "llama-biases", "mistral-window", "qwen2", "qwen2-window-tied", "qwen3", "gpt2", "gpt2-options",
    ].map(GradientCase.init)

    var testDescription: String { name }
    var path: String { "\(GoldenModel.directory)/../gradients/\(name)" }

    func model(_ file: String = "model.safetensors") throws -> TrainedModel {
        try TrainedModel(
            CheckpointContents(path: "\(path)/\(file)"), config: FileTree.bytes(path + "/config.json"), path: "config.json", longest: 40)
    }

    func frozen(_ file: String = "model.safetensors") throws -> LanguageModel {
        try LanguageModel(
            CheckpointContents(path: "\(path)/\(file)"), config: FileTree.bytes(path + "/config.json"), path: "config.json", longest: 40)
    }

    struct Expected {
        private let contents: CheckpointContents

        init(_ path: String) throws { contents = try CheckpointContents(path: path + "/expected.safetensors") }

        func values<T>(_ name: String, _ type: T.Type = T.self) throws -> [T] {
            let entry = try #require(contents.tensors.first { $0.name == name }, "\(name)")
            return try contents.makeReader().withBytes(of: entry, 0..<entry.byteCount) { bytes in
                (0..<bytes.count / MemoryLayout<T>.size).map {
                    bytes.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self)
                }
            }
        }

        func names(_ prefix: String) -> [String] {
            contents.tensors.map(\.name).filter { $0.hasPrefix(prefix) }.map { String($0.dropFirst(prefix.count)) }
        }

        func samples() throws -> [GradientPass.Sample] {
            let tokens = try values("tokens", Int32.self)
            var start = 0
            return try zip(values("lengths", Int32.self), values("starts", Int32.self)).map { length, first in
                let range = start..<start + Int(length)
                start = range.upperBound
                return GradientPass.Sample(ScoringSample(tokens: Array(tokens[range]), supervised: [Int(first)..<Int(length)]))
            }
        }
    }

    func expected() throws -> Expected { try Expected(path) }
}

extension TrainedModel {
    func gradient(_ name: String) throws -> [Float] {
        let entry = try #require(parameters.entries.first { $0.name == name }, "\(name)")
        return Array(UnsafeBufferPointer(start: parameters.gradients + entry.parameter.offset, count: entry.parameter.count))
    }

    /// The largest difference of a gradient from the expected ones, as a share of the largest of its tensor.
    func differences(from expected: GradientCase.Expected, _ prefix: String) throws -> [(name: String, share: Float)] {
        try expected.names(prefix).map { name in
            let wanted: [Float] = try expected.values(prefix + name)
            let found = try gradient(name)
            try #require(found.count == wanted.count, "\(name)")
            let largest = wanted.map(abs).max()!
            let difference = zip(found, wanted).map { $0.isNaN ? .infinity : abs($0 - $1) }.max()!
            return (name, difference / largest)
        }
    }
}

@Suite struct GradientGoldenTests {
    /// In single precision, with sums over some ten rows and columns.
    static let tolerance: Float = 2e-5

    @Test(arguments: GradientCase.trainable, [(1, 2048, false), (3, 2048, false), (2, 20, true), (2, 1, false)])
    func `gradients are those of the reference`(golden: GradientCase, way: (threads: Int, microBatch: Int, checkpoints: Bool)) throws {
        let expected = try golden.expected()
        let model = try golden.model()
        var options = GradientPass.Options()
        (options.microBatchTokens, options.checkpointsActivations) = (way.microBatch, way.checkpoints)
        let pass = try GradientPass(model, .none, options, ThreadTeam(count: way.threads))
        let samples = try expected.samples()
        let figures = try pass.addGradients(samples, LossSettings())
        #expect(figures.tokens == samples.reduce(0) { $0 + $1.sample.count })
        #expect(abs(figures.loss / Double(figures.tokens) - (try expected.values("loss", Double.self)[0])) < 1e-5)
        let differences = try model.differences(from: expected, "gradient.")
        #expect(differences.count == model.parameters.entries.count)
        for (name, share) in differences { #expect(share < GradientGoldenTests.tolerance, "\(name)") }
    }

    @Test(arguments: GradientCase.trainable)
    func `smoothed labels are those of the reference`(golden: GradientCase) throws {
        let expected = try golden.expected()
        let model = try golden.model()
        let pass = try GradientPass(model, .none, GradientPass.Options(), ThreadTeam(count: 2))
        let figures = try pass.addGradients(try expected.samples(), LossSettings(smoothing: 0.1))
        #expect(abs(figures.loss / Double(figures.tokens) - (try expected.values("loss.smoothed", Double.self)[0])) < 1e-5)
        let differences = try model.differences(from: expected, "smoothed.")
        #expect(!differences.isEmpty)
        for (name, share) in differences { #expect(share < GradientGoldenTests.tolerance, "\(name)") }
    }

    @Test(arguments: ["llama-tied-gqa", "gpt2"].map(GradientCase.init), [false, true])
    func `mixed logits train both branches as the reference does`(golden: GradientCase, isFrozen: Bool) throws {
        let expected = try golden.expected()
        let strong = try golden.model()
        let weak = try golden.model("weak.safetensors")
        let frozen = try golden.frozen("weak.safetensors")
        let lambda = Float(try expected.values("mixed.lambda", Double.self)[0])
        let pass = try GradientPass(
            strong, isFrozen ? .frozen([frozen]) : .trained(weak), GradientPass.Options(), ThreadTeam(count: 2))
        let figures = try pass.addGradients(try expected.samples(), LossSettings(share: lambda, weakShare: 1 - lambda))
        #expect(abs(figures.loss / Double(figures.tokens) - (try expected.values("mixed.loss", Double.self)[0])) < 1e-5)
        for (name, share) in try strong.differences(from: expected, "mixed.strong.") { #expect(share < 3e-5, "\(name)") }
        if !isFrozen {
            for (name, share) in try weak.differences(from: expected, "mixed.weak.") { #expect(share < 3e-5, "\(name)") }
        }
    }
}
