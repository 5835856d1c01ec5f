import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

/// Differences against numpy's and exact arithmetic's, made by `tools/reference/diff/make_diff_cases.py`.
@Suite struct GoldenDiffTests {
    struct Expected: Decodable {
        var words: UInt64
        var changed: UInt64
        var signFlips: UInt64
        var nonfinite: UInt64
        var maxAbs: Double
        var deltaL2: Double
        var firstL2: Double
        var secondL2: Double
        /// Null where the first is all zero.
        var relativeL2: Double?
        /// Null where one of them is all zero.
        var cosine: Double?
        var ulps: Double
        var ulpCounts: [UInt64]
        /// Of tensors of two dimensions and more.
        var rows: [Double]?
        var columns: [Double]?
        /// The eight largest of d, of matrices of floating-point numbers.
        var singularValues: [Double]?
    }

    private struct Golden: Decodable {
        var tensors: [String: Expected]
        var strided: [String: Expected]
    }

    private static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Golden/diff").path

    private static let golden = Result {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .custom { keys in
            let words = keys.last!.stringValue.split(separator: "_")
            // Names of tensors are kept; of fields, words are joined.
            guard keys.count == 3, words.count > 1 else { return keys.last! }
            return Key(words[0] + words.dropFirst().map { $0 == "l2" ? "L2" : $0.capitalized }.joined())
        }
        return try decoder.decode(Golden.self, from: Data(contentsOf: URL(filePath: directory + "/expected.json")))
    }

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(_ string: String) { stringValue = string }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    /// Within a millionth, as promised.
    private func isClose(_ value: Double, _ wanted: Double) -> Bool {
        value == wanted || abs(value - wanted) <= 1e-6 * abs(wanted)
    }

    private func check(_ delta: WeightDelta, _ wanted: Expected, _ side: String) {
        let name: Comment = "\(side) \(delta.name)"
        #expect(delta.words == wanted.words, name)
        #expect(delta.changed == wanted.changed, name)
        #expect(delta.signFlips == wanted.signFlips, name)
        #expect(delta.nonfinite == wanted.nonfinite, name)
        #expect(isClose(delta.maxAbs, wanted.maxAbs), "\(side) \(delta.name): \(delta.maxAbs) for \(wanted.maxAbs)")
        #expect(isClose(delta.deltaL2, wanted.deltaL2), "\(side) \(delta.name): \(delta.deltaL2) for \(wanted.deltaL2)")
        #expect(isClose(delta.sumFirst.squareRoot(), wanted.firstL2), name)
        #expect(isClose(delta.sumSecond.squareRoot(), wanted.secondL2), name)
        if let relative = wanted.relativeL2 {
            #expect(isClose(delta.relativeL2, relative), "\(side) \(delta.name): \(delta.relativeL2) for \(relative)")
        } else {
            #expect(delta.relativeL2 == (wanted.deltaL2 == 0 ? 0 : .infinity), name)
        }
        if let movement = delta.movement {
            // Whole numbers below 2^53, else rounded like all sums.
            #expect(movement.ulps == wanted.ulps || wanted.ulps > 0x1p53 && isClose(movement.ulps, wanted.ulps), name)
            #expect(Array(movement.ulpCounts.prefix(wanted.ulpCounts.count)) == wanted.ulpCounts, name)
            #expect(movement.ulpCounts.reduce(0, +) == wanted.words - wanted.nonfinite, name)
            check(movement.rows, wanted.rows, "\(side) \(delta.name), rows")
            check(movement.columns, wanted.columns, "\(side) \(delta.name), columns")
        }
        guard let cosine = wanted.cosine else {
            #expect(delta.cosine == nil, name)
            return
        }
        guard let found = delta.cosine else {
            Issue.record("\(side) \(delta.name): no cosine")
            return
        }
        // Of near-orthogonal vectors the cosine is the rest of a cancellation: it is right to 12 places of 1.
        let isRight = isClose(found, cosine) || abs(found - cosine) < 1e-12
        #expect(isRight, "\(side) \(delta.name): \(found) for \(cosine)")
    }

    private func check(_ norms: [Double]?, _ wanted: [Double]?, _ name: String) {
        #expect(norms?.count == wanted?.count, "\(name)")
        for (index, (norm, wanted)) in zip(norms ?? [], wanted ?? []).enumerated() {
            #expect(isClose(norm, wanted), "\(name) \(index): \(norm) for \(wanted)")
        }
    }

    @Test(arguments: [DiffDetail.basic, .full])
    func everyDtypeAgreesWithExactArithmetic(detail: DiffDetail) throws {
        let golden = try Self.golden.get().tensors
        let first = try CheckpointContents(path: Self.directory + "/first.safetensors")
        let second = try CheckpointContents(path: Self.directory + "/second.safetensors")
        let delta = try CheckpointDiff.compare(first, second, detail: detail)
        #expect(delta.compared.allSatisfy { ($0.movement != nil) == (detail == .full) })
        #expect(delta.mismatched.isEmpty && delta.identical.isEmpty && delta.isDifferent)
        #expect(delta.compared.count == golden.count && golden.count > 100)
        #expect(Set(delta.compared.map(\.dtype)) == Set(DType.allCases).subtracting([.c128]))
        for tensor in delta.compared {
            check(tensor, try #require(golden[tensor.name], "\(tensor.name)"), "from files,")
        }
    }

    /// Singular values are numpy's, but for those below a ten millionth of the largest, which are not told.
    @Test func singularValuesAreNumpys() throws {
        let golden = try Self.golden.get().tensors
        let first = try CheckpointContents(path: Self.directory + "/first.safetensors")
        let second = try CheckpointContents(path: Self.directory + "/second.safetensors")
        var delta = try CheckpointDiff.compare(first, second)
        try delta.addSpectra(first, second, count: 8)
        var compared = 0
        for tensor in delta.compared {
            let name: Comment = "\(tensor.name): \(String(describing: tensor.spectrum)), \(String(describing: golden[tensor.name]?.singularValues))"
            guard let wanted = golden[tensor.name]?.singularValues, WordDifference.isPossible(tensor.dtype), tensor.changed > 0 else {
                #expect(tensor.spectrum == nil, name)
                continue
            }
            let spectrum = try #require(tensor.spectrum, name)
            guard let largest = wanted.first, largest > 0 else {
                #expect(spectrum.values.isEmpty, name)
                continue
            }
            compared += 1
            for (index, value) in wanted.enumerated() where value > 1e-5 * largest {
                #expect(index < spectrum.values.count && abs(spectrum.values[index] - value) <= 1e-6 * largest, name)
            }
            #expect(isClose(spectrum.squares, tensor.sumDelta) && spectrum.stableRank >= 1 - 1e-6 && spectrum.energy(8) <= 1, name)
        }
        #expect(compared > 50)
    }

    /// Swapped, everything but the sides is the same.
    @Test func everyDtypeSwapped() throws {
        let golden = try Self.golden.get().tensors
        let first = try CheckpointContents(path: Self.directory + "/first.safetensors")
        let second = try CheckpointContents(path: Self.directory + "/second.safetensors")
        for tensor in try CheckpointDiff.compare(second, first).compared {
            let wanted = try #require(golden[tensor.name])
            #expect(tensor.changed == wanted.changed && tensor.signFlips == wanted.signFlips)
            #expect(tensor.nonfinite == wanted.nonfinite)
            #expect(isClose(tensor.maxAbs, wanted.maxAbs) && isClose(tensor.deltaL2, wanted.deltaL2), "\(tensor.name)")
            #expect(isClose(tensor.sumSecond.squareRoot(), wanted.firstL2), "\(tensor.name)")
            #expect(isClose(tensor.sumFirst.squareRoot(), wanted.secondL2), "\(tensor.name)")
        }
    }

    /// Of a store's blocks the sums are the files' to the last bit.
    @Test(arguments: [false, true])
    func everyDtypeFromAStore(makesImage: Bool) throws {
        let golden = try Self.golden.get().tensors
        let directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store")
        let store = try Store.open(directory.path + "/store")
        var options = IngestOptions()
        options.run = "r"
        options.makesImage = makesImage
        for (step, name) in ["first", "second"].enumerated() {
            options.step = UInt64(step)
            try store.ingest(Self.directory + "/\(name).safetensors", options: options)
        }
        let delta = try CheckpointDiff.compare(store.contents("r@0"), store.contents("r@1"), detail: .full)
        // Equal tensors are known by their ids.
        #expect(Set(delta.identical.map(\.name)) == Set(golden.filter { $0.value.changed == 0 }.keys))
        for tensor in delta.compared { check(tensor, try #require(golden[tensor.name]), "from a store,") }
        #expect(delta.compared.count + delta.identical.count == golden.count)
    }

    /// Views of PyTorch storages: transposed, stepped, repeated.
    @Test func stridedViewsAreComparedAsTheyRead() throws {
        let golden = try Self.golden.get().strided
        let first = try CheckpointContents(path: Self.directory + "/first.pt")
        let second = try CheckpointContents(path: Self.directory + "/second.pt")
        let delta = try CheckpointDiff.compare(first, second, detail: .full)
        #expect(delta.compared.count == golden.count && golden.count == 15)
        #expect(first.tensors.filter { $0.strides != nil }.count >= 9)
        for tensor in delta.compared { check(tensor, try #require(golden[tensor.name], "\(tensor.name)"), "strided,") }
    }
}
