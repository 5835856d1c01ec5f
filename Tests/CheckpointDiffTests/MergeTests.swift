import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

@Suite struct MergeTests {
    // MARK: Words

    /// Every half is what its bits say, and comes back.
    @Test func halves() {
        for word in UInt16.min...UInt16.max {
            let value = FloatWords.half(word)
            let (sign, exponent, fraction) = (word >> 15, Int(word >> 10 & 31), Double(word & 1023))
            let magnitude = exponent == 31 ? (fraction == 0 ? Double.infinity : .nan) : exponent == 0 ? fraction / 0x1p24 : (1 + fraction / 1024) * pow(2, Double(exponent - 15))
            if magnitude.isNaN {
                #expect(value.isNaN && FloatWords.half(FloatWords.half(value)).isNaN)
            } else {
                #expect(value == (sign == 1 ? -magnitude : magnitude) && FloatWords.half(value) == word)
            }
        }
    }

    /// Rounding goes to the nearest word, of two as near to the even one: against a search among its neighbours.
    @Test(arguments: [DType.bf16, .f16]) func rounding(_ dtype: DType) {
        func value(_ word: UInt16) -> Double { dtype == .f16 ? FloatWords.half(word) : Double(Float(bitPattern: UInt32(word) << 16)) }
        func word(_ value: Double) -> UInt16 { dtype == .f16 ? FloatWords.half(value) : FloatWords.bfloat(value) }
        let largest: UInt16 = dtype == .f16 ? 0x7BFF : 0x7F7F
        var random = SeededGenerator(seed: 4)
        for round in 0..<200_000 {
            let low = UInt16.random(in: 0..<largest, using: &random)
            let (a, b) = (value(low), value(low + 1))
            // The middle itself, a hair to each side of it, and anywhere between.
            let middle = a + (b - a) / 2
            let number = [middle, middle.nextUp, middle.nextDown, .random(in: a...b, using: &random)][round % 4]
            let nearest = number < middle || (number == middle && low % 2 == 0) ? low : low + 1
            #expect(word(number) == nearest && word(-number) == nearest | 0x8000, "\(number) between \(a) and \(b)")
        }
        #expect(value(word(1e39)) == .infinity && value(word(-1e39)) == -.infinity && value(word(.nan)).isNaN && word(-0.0) == 0x8000)
    }

    // MARK: Sums

    private static let shapes: [(String, DType, [UInt64])] = [
        ("embed", .bf16, [300, 700]), ("half", .f16, [33, 65]), ("single", .f32, [400, 200]), ("double", .f64, [9, 7]), ("empty", .f32, [0, 3]),
    ]

    /// Weights near each other, as those of one training.
    private static func checkpoint(_ seed: UInt64) -> [Written] {
        var random = SeededGenerator(seed: seed)
        return shapes.map { name, dtype, shape in
            let count = Int(shape.reduce(1, *))
            var bytes: [UInt8] = []
            for _ in 0..<count {
                let value = Double.random(in: -2...2, using: &random)
                withUnsafeTemporaryAllocation(of: Double.self, capacity: 1) { sum in
                    sum[0] = value
                    withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { word in
                        FloatWords.round(sum, dtype, into: word)
                        bytes += word.prefix(FloatWords.byteCount(dtype)!)
                    }
                }
            }
            return Written(name: name, dtype: dtype, shape: shape, bytes: bytes)
        } + [Written(name: "steps", dtype: .i64, shape: [2], bytes: [UInt8](repeating: UInt8(seed), count: 16))]
    }

    private static func values(_ tensor: Written) -> [Double] {
        let count = tensor.bytes.count / FloatWords.byteCount(tensor.dtype)!
        var values = [Double](repeating: 0, count: count)
        values.withUnsafeMutableBufferPointer { values in
            tensor.bytes.withUnsafeBytes { FloatWords.add($0, tensor.dtype, weight: 1, to: values, isFirst: true) }
        }
        return values
    }

    @Test(arguments: [[0.5, 0.5], [1, 0.7, -0.7], [0.2, 0.3, 0.1, 0.4]]) func sumsOfSnapshots(_ weights: [Double]) throws {
        let directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store")
        let store = try Store.open(directory.path + "/store")
        let checkpoints = weights.indices.map { MergeTests.checkpoint(UInt64($0 + 1)) }
        for (step, tensors) in checkpoints.enumerated() {
            try directory.write("run/checkpoint-\(step)/model.safetensors", tensors)
            try FileTree.write("{\"global_step\": \(step)}", to: directory.path + "/run/checkpoint-\(step)/trainer_state.json")
            try FileTree.write("{\"model_type\": \"x\"}", to: directory.path + "/run/checkpoint-\(step)/config.json")
            try directory.write("run/checkpoint-\(step)/optimizer.safetensors", [checkpoints[step][0]])
        }
        try store.ingest(directory.path + "/run", options: IngestOptions())
        let terms = try weights.enumerated().map { WeightedSum.Term(try store.contents("run@\($0)"), weight: $1) }
        let sum = try WeightedSum(terms)
        #expect(sum.copied == ["steps"])
        let result = try store.merge(sum, into: "run@0", run: "merged", origin: "test")
        #expect(result.step == 0 && result.run == "merged")
        let again = try store.merge(sum, into: "run@0", run: "other", origin: "test")
        #expect(again.id == result.id)

        let exported = directory.path + "/exported"
        try store.export("merged", to: exported)
        #expect(try FileManager.default.contentsOfDirectory(atPath: exported).sorted() == ["config.json", "model.safetensors"])
        let contents = try store.contents("merged")
        for (index, (name, dtype, _)) in MergeTests.shapes.enumerated() {
            let tensor = try #require(contents.tensors.first { $0.name == name })
            var bytes = [UInt8](repeating: 0, count: Int(tensor.byteCount))
            try bytes.withUnsafeMutableBytes { try contents.read(tensor, into: $0) }
            let terms = checkpoints.map { MergeTests.values($0[index]) }
            let found = MergeTests.values(Written(name: name, dtype: dtype, shape: [], bytes: bytes))
            for place in found.indices {
                var expected = 0.0
                for (term, weight) in zip(terms, weights) { expected += weight * term[place] }
                // Half a unit in the last place of the type.
                let digits = [DType.bf16: 8, .f16: 11, .f32: 24, .f64: 53][dtype]!
                let unit = max(pow(2, Double(expected == 0 ? -100 : Int(expected.exponent) + 1 - digits)), dtype == .f16 ? 0x1p-24 : 0)
                guard abs(found[place] - expected) <= unit / 2 else {
                    Issue.record("\(name)[\(place)]: \(found[place]), not \(expected)")
                    break
                }
            }
        }
        let steps = try #require(contents.tensors.first { $0.name == "steps" })
        var bytes = [UInt8](repeating: 0, count: 16)
        try bytes.withUnsafeMutableBytes { try contents.read(steps, into: $0) }
        #expect(bytes == [UInt8](repeating: 1, count: 16))
        #expect(try Store.verify(store.path, depth: .full).problems.map(\.description) == [])
        #expect((try? FileManager.default.contentsOfDirectory(atPath: store.path + "/training")) ?? [] == [])
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let directory = try TemporaryDirectory()
        func contents(_ name: String, _ tensors: [Written]) throws -> CheckpointContents {
            try CheckpointContents(path: directory.write("\(name)/model.safetensors", tensors))
        }
        let one = Written.random("a", .f32, [4, 4], seed: 1)
        let first = try contents("first", [one])
        for (name, tensors, word) in [
            ("other-shape", [Written.random("a", .f32, [4, 5], seed: 1)], "[4, 5]"), ("other-type", [Written.random("a", .bf16, [4, 4], seed: 1)], "BF16"),
            ("other-name", [Written.random("b", .f32, [4, 4], seed: 1)], "has no tensor a"), ("more", [one, Written.random("b", .f32, [1], seed: 1)], "tensor b"),
        ] {
            let error = try #require(throws: StoreError.self) {
                try WeightedSum([.init(first, weight: 1), .init(contents(name, tensors), weight: 1)])
            }
            #expect(error.code == .badInput && "\(error)".contains(word), "\(error)")
        }
        #expect(throws: StoreError.self) { try WeightedSum([.init(first, weight: .nan)]) }
        #expect(throws: StoreError.self) { try WeightedSum([]) }
    }

    @Test(arguments: [0, 0.5, 0.99]) func movingAverages(_ decay: Double) {
        var random = SeededGenerator(seed: 8)
        for count in 1...12 {
            let values = (0..<count).map { _ in Double.random(in: -1...1, using: &random) }
            var average = values[0]
            for value in values.dropFirst() { average = decay * average + (1 - decay) * value }
            let weights = WeightedSum.movingAverageWeights(count, decay: decay)
            #expect(abs(weights.reduce(0, +) - 1) < 1e-12)
            #expect(abs(zip(weights, values).reduce(0) { $0 + $1.0 * $1.1 } - average) < 1e-12)
        }
    }
}
