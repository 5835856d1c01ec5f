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

    private func spectrum(_ d: [Float], _ shape: [UInt64], count: Int) throws -> Spectrum? {
        let directory = try TemporaryDirectory()
        let zeros = Written(name: "w", dtype: .f32, shape: shape, bytes: [UInt8](repeating: 0, count: d.count * 4))
        var moved = zeros
        moved.bytes = d.withUnsafeBytes { Array($0) }
        let first = try CheckpointContents(path: directory.write("a/model.safetensors", [zeros]))
        let second = try CheckpointContents(path: directory.write("b/model.safetensors", [moved]))
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
        #expect(found.values.count <= max(values.count, 16) && found.values == found.values.sorted(by: >))
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

    /// The same to the last bit on one processor, on all, and from a store.
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
