import Foundation
import LanguageModel
import Testing
import WeakTraining

/// What `format-spec/random/vectors.py` says, a second implementation of `format-spec/random.md`: to the bit.
@Suite struct RandomVectorTests {
    struct Stream: Decodable {
        var seed: UInt64
        var purpose: UInt32
        var round: UInt32
        var pass: UInt32
        var words: [UInt32]
        var uniforms: [Double]
        var indices: [Indices]
        var permutations: [[Int]]

        func begin() throws -> Philox {
            Philox(seed: seed, try #require(Philox.Purpose(rawValue: purpose)), round: round, pass: pass)
        }
    }

    /// A count, and indices below it.
    struct Indices: Decodable {
        var count: Int
        var found: [Int]
        init(from decoder: any Decoder) throws {
            var pair = try decoder.unkeyedContainer()
            count = try pair.decode(Int.self)
            found = try pair.decode([Int].self)
        }
    }

    struct Order: Decodable {
        var select: String
        var coefficients: [Double]?
        var multiplier: Double
        var weak: [Double]?
        var strong: [Double]?
        var weights: [Double]
        var seed: UInt64
        var round: Int
        var batch_size: Int
        var batches: [Batch]
    }

    /// Pass, place and samples.
    struct Batch: Decodable {
        var batch: BatchOrder.Batch
        init(from decoder: any Decoder) throws {
            var list = try decoder.unkeyedContainer()
            batch = .init(pass: try list.decode(Int.self), place: try list.decode(Int.self), samples: try list.decode([Int].self))
        }
    }

    struct Rotated: Decodable {
        var vocabulary: Int
        var target: Int
        var seed: UInt64
        var sample: Int
        var position: Int
        var offset: Int
        var sources: [Int]?
    }

    private struct Vectors: Decodable {
        var streams: [Stream]
        var orders: [Order]
        var rotations: [Rotated]
    }

    private static let vectors = Result {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        return try JSONDecoder().decode(
            Vectors.self, from: Data(contentsOf: root.appending(path: "format-spec/random/vectors.json")))
    }

    @Test func `streams`() throws {
        let streams = try RandomVectorTests.vectors.get().streams
        #expect(Set(streams.map(\.purpose)).count == 5)
        for wanted in streams {
            var stream = try wanted.begin()
            #expect(wanted.words.map { _ in stream.word() } == wanted.words)
            stream = try wanted.begin()
            #expect(wanted.uniforms.map { _ in stream.uniform() } == wanted.uniforms)
            for indices in wanted.indices {
                stream = try wanted.begin()
                #expect(indices.found.map { _ in stream.index(below: indices.count) } == indices.found)
            }
            for permutation in wanted.permutations {
                stream = try wanted.begin()
                #expect(stream.permutation(permutation.count) == permutation)
            }
        }
    }

    @Test func `weights and batches`() throws {
        let orders = try RandomVectorTests.vectors.get().orders
        #expect(Set(orders.map(\.select)) == ["uniform", "v1", "v2", "code", "formula"])
        for wanted in orders {
            let selection = try Selection(wanted.select == "formula" ? "1" : wanted.select)
            if let numbers = wanted.coefficients, let weak = wanted.weak, let strong = wanted.strong {
                let curriculum = Curriculum(selection, try .init(a: numbers[0], b: numbers[1], c: numbers[2]))
                #expect(try curriculum.weights(ids: weak.indices.map { "\($0)" }, weak: weak, strong: strong) == wanted.weights)
            }
            var order = BatchOrder(
                selection, weights: wanted.weights, multiplier: wanted.multiplier, seed: wanted.seed, round: wanted.round,
                batchSize: wanted.batch_size)
            #expect(wanted.batches.indices.map { order.batch($0) } == wanted.batches.map(\.batch), "\(wanted.select)")
        }
    }

    @Test func `rotations`() throws {
        for wanted in try RandomVectorTests.vectors.get().rotations {
            let rotation = Rotation(
                vocabulary: wanted.vocabulary, target: wanted.target, seed: wanted.seed, sample: wanted.sample, position: wanted.position)
            #expect(rotation.offset == wanted.offset)
            if let sources = wanted.sources { #expect((0..<wanted.vocabulary).map(rotation.source) == sources) }
        }
    }
}
