import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

/// Singular values of matrices that are made with known ones.
@Suite struct SpectrumTests {
    /// `count` random orthonormal vectors of `size` numbers.
    private func orthonormal(_ count: Int, _ size: Int, _ generator: inout SeededGenerator) -> [[Double]] {
        var vectors: [[Double]] = []
        while vectors.count < count {
            var vector = (0..<size).map { _ in Double(generator.below(2_000_001)) / 1e6 - 1 }
            for _ in 0..<2 {
                for other in vectors {
                    let along = zip(vector, other).reduce(0) { $0 + $1.0 * $1.1 }
                    for index in vector.indices { vector[index] -= along * other[index] }
                }
            }
            let norm = vector.reduce(0) { $0 + $1 * $1 }.squareRoot()
            vectors.append(vector.map { $0 / norm })
        }
        return vectors
    }

    /// A matrix with these singular values, row by row.
    private func matrix(_ values: [Double], _ rows: Int, _ columns: Int, _ generator: inout SeededGenerator) -> [Float] {
        let left = orthonormal(values.count, rows, &generator), right = orthonormal(values.count, columns, &generator)
        var sums = [Double](repeating: 0, count: rows * columns)
        for (index, value) in values.enumerated() {
            for row in 0..<rows {
                for column in 0..<columns { sums[row * columns + column] += value * left[index][row] * right[index][column] }
            }
        }
        return sums.map { Float($0) }
    }

    /// A tensor of zeros, and one that is d.
    private func pair(_ d: [Float], _ shape: [UInt64], in directory: TemporaryDirectory) throws -> (CheckpointContents, CheckpointContents) {
        let zeros = Written(name: "w", dtype: .f32, shape: shape, bytes: [UInt8](repeating: 0, count: d.count * 4))
        var moved = zeros
        moved.bytes = d.withUnsafeBytes { Array($0) }
        return (
            try CheckpointContents(path: directory.write("a/model.safetensors", [zeros])),
            try CheckpointContents(path: directory.write("b/model.safetensors", [moved])))
    }

    private func spectrum(_ d: [Float], _ shape: [UInt64], count: Int) throws -> Spectrum? {
        let directory = try TemporaryDirectory()
        let (first, second) = try pair(d, shape, in: directory)
        var delta = try CheckpointDiff.compare(first, second)
        try delta.addSpectra(first, second, count: count)
        return delta.compared[0].spectrum
    }

    private static let spectra: [(name: String, values: [Double])] = [
        ("low rank", [9, 7, 5, 3, 1]), ("one", [2]), ("equal", [Double](repeating: 1, count: 40)),
        ("slow", (1...60).map { pow(Double($0), -0.3) }), ("fast", (0..<20).map { pow(10, -Double($0)) }),
        ("flat with a bump", [3] + [Double](repeating: 1, count: 59)), ("pairs", (0..<60).map { pow(0.9, Double($0 / 2)) }),
    ]

    @Test(arguments: spectra.map(\.name), [[100, 80], [60, 200], [300, 60], [8, 10, 80]] as [[UInt64]])
    func knownValuesAreFound(name: String, shape: [UInt64]) throws {
        var generator = SeededGenerator(test: "knownValuesAreFound \(name) \(shape)")
        let columns = Int(shape.last!), rows = Int(shape.dropLast().reduce(1, *))
        let values = Self.spectra.first { $0.name == name }!.values
        let found = try #require(try spectrum(matrix(values, rows, columns, &generator), shape, count: 16))
        for (index, value) in values.prefix(8).enumerated() where value > 1e-5 * values[0] {
            #expect(index < found.values.count && abs(found.values[index] - value) <= 0.01 * value, "\(found.values) seed \(generator.seed)")
        }
        #expect(found.values.count <= 16 && found.values == found.values.sorted(by: >) && found.isSettled)
        // None is missing, of equal ones neither, but for those that are rounding beside the largest.
        #expect(found.values.count >= min(16, values.filter { $0 > 1e-5 * values[0] }.count), "\(found.values)")
        let squares = values.reduce(0) { $0 + $1 * $1 }
        #expect(abs(found.squares - squares) < 1e-5 * squares && abs(found.stableRank - squares / (values[0] * values[0])) < 0.03 * found.stableRank)
    }

    /// The hardest case: nothing leads. The values of noise, by the eigenvalues of all of d^T d.
    @Test func noise() throws {
        var generator = SeededGenerator(test: "noise")
        let (rows, columns) = (400, 300)
        let d = (0..<(rows * columns)).map { _ in Float((0..<12).reduce(0) { sum, _ in sum + Double(generator.below(1_000_001)) / 1e6 } - 6) }
        var gram = [Double](repeating: 0, count: columns * columns)
        for row in 0..<rows {
            for i in 0..<columns {
                for j in 0...i { gram[i * columns + j] += Double(d[row * columns + i]) * Double(d[row * columns + j]) }
            }
        }
        let wanted = SymmetricEigenvalues.of(gram, size: columns).map { $0.squareRoot() }
        let found = try #require(try spectrum(d, [UInt64(rows), UInt64(columns)], count: 16))
        for index in 0..<8 { #expect(abs(found.values[index] - wanted[index]) <= 0.01 * wanted[index], "\(index): \(found.values[index]) for \(wanted[index])") }
        for index in 0..<16 { #expect(abs(found.values[index] - wanted[index]) <= 0.02 * wanted[index], "\(index): \(found.values[index]) for \(wanted[index])") }
    }

    /// Whether few or many values are asked for, they are right to 1 %: where none leads they settle late. Of noise, and of values that fall slowly.
    @Test(arguments: [1, 4, 8, 16, 32], [false, true])
    func slowlySettlingValues(count: Int, isLinear: Bool) throws {
        let size = 1200
        let values = (0..<size).map { index -> Float in
            let place = Float(index) / Float(size)
            return isLinear ? 1 - 0.8 * place : (1 - place * place).squareRoot()
        }
        var d = [Float](repeating: 0, count: size * size)
        for index in 0..<size { d[index * size + (index * 7) % size] = values[index] }
        let found = try #require(try spectrum(d, [UInt64(size), UInt64(size)], count: count))
        #expect(found.values.count == count && found.isSettled)
        for (found, wanted) in zip(found.values, values) { #expect(abs(found - Double(wanted)) <= 0.01 * Double(wanted), "\(found) for \(wanted)") }
    }

    /// Kept in memory, or read again for each product: the same.
    @Test(arguments: [[300, 70], [70, 300], [9, 4]] as [[UInt64]])
    func keptOrReadAgain(shape: [UInt64]) throws {
        var generator = SeededGenerator(test: "keptOrReadAgain \(shape)")
        let d = matrix([5, 4, 3, 2], Int(shape[0]), Int(shape[1]), &generator)
        let directory = try TemporaryDirectory()
        let (first, second) = try pair(d, shape, in: directory)
        let lanes = try Lanes { MatrixLane(try first.makeReader(), try second.makeReader()) }
        let found = try [0, 1 << 20].map { keptWords in
            try DeltaMatrix(first.tensors[0], second.tensors[0], maxAbs: 1, room: KeptRoom(), keptWords: keptWords, lanes, Monitor())!.leadingSingularValues(4).values
        }
        #expect(found[0].count == 4 && found[1].count == 4)
        for (a, b) in zip(found[0], found[1]) { #expect(abs(a - b) < 1e-6 * found[0][0]) }
        for (a, wanted) in zip(found[0], [5.0, 4, 3, 2]) { #expect(abs(a - wanted) < 1e-5) }
    }

    /// Eigenvalues that are known: of a matrix of differences, 2 - 2 cos(k pi / (n + 1)); of diagonals; and none.
    @Test func eigenvaluesOfSmallMatrices() {
        for size in [1, 2, 3, 8, 50] {
            var matrix = [Double](repeating: 0, count: size * size)
            for index in 0..<size {
                matrix[index * size + index] = 2
                if index > 0 {
                    matrix[index * size + index - 1] = -1
                    matrix[(index - 1) * size + index] = -1
                }
            }
            let wanted = (1...size).map { 2 - 2 * cos(Double($0) * .pi / Double(size + 1)) }.sorted(by: >)
            for (found, wanted) in zip(SymmetricEigenvalues.of(matrix, size: size), wanted) { #expect(abs(found - wanted) < 1e-13) }
        }
        #expect(SymmetricEigenvalues.of([3, 0, 0, 0, 0, 0, 0, 0, 7], size: 3) == [7, 3, 0])
        #expect(SymmetricEigenvalues.of([], size: 0).isEmpty)
    }

    /// The same to the last bit on one processor and on all.
    @Test func valuesDoNotDependOnThreads() throws {
        var generator = SeededGenerator(test: "valuesDoNotDependOnThreads")
        let d = matrix([5, 4, 3, 2, 1], 500, 90, &generator)
        let alone = try withProcessors(1) { try spectrum(d, [500, 90], count: 8) }
        let together = try spectrum(d, [500, 90], count: 8)
        #expect(alone?.values == together?.values && alone != nil)
    }

    @Test func whatHasNone() throws {
        #expect(try spectrum([1, 2, 3], [3], count: 4) == nil)
        #expect(try spectrum([0, 0, 0, 0], [2, 2], count: 4) == nil)
        let nan = try #require(try spectrum([.nan, .nan, .nan, .nan], [2, 2], count: 4))
        #expect(nan.values.isEmpty && nan.stableRank == 0 && nan.energy(4) == 0)
        let one = try #require(try spectrum([.infinity, 3, 0, 4], [2, 2], count: 4))
        #expect(abs(one.values[0] - 5) < 1e-6 && one.values.count == 1)
    }
}
