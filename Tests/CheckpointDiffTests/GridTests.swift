import TensorFormats
import TestSupport
import Testing

@testable import CheckpointStore

/// The grid against the rule in its own words, one row at a time.
@Suite struct GridTests {
    private static let blockBytes = 256 << 10

    /// The blocks of a tensor: whole rows (or groups of rows that end on a byte) while they fit into 256 KiB; a longer
    /// row cut at 256 KiB, of 6-bit types at the multiple of three bytes below.
    private func naive(_ dtype: DType, _ shape: [UInt64]) -> [Range<UInt64>] {
        let elements = shape.reduce(1, *)
        let total = Int(elements) * dtype.bits / 8
        guard total > 0 else { return [] }
        let rows = shape.isEmpty ? 1 : Int(shape[0])
        let rowBits = Int(elements) / rows * dtype.bits
        var group = 1
        while group * rowBits % 8 != 0 { group += 1 }
        // Where the groups end; the last may be of fewer rows.
        var ends = stride(from: group, to: rows, by: group).map { $0 * rowBits / 8 }
        ends.append(total)
        var blocks: [Range<UInt64>] = []
        var start = 0
        var last = 0
        let longest = group * rowBits / 8
        for end in ends {
            if longest > Self.blockBytes {
                let limit = dtype.bits == 6 ? Self.blockBytes - Self.blockBytes % 3 : Self.blockBytes
                for piece in stride(from: last, to: end, by: limit) {
                    blocks.append(UInt64(piece)..<UInt64(min(piece + limit, end)))
                }
                start = end
            } else if end - start > Self.blockBytes {
                blocks.append(UInt64(start)..<UInt64(last))
                start = last
            }
            last = end
        }
        if start < total { blocks.append(UInt64(start)..<UInt64(total)) }
        return blocks
    }

    private func check(_ dtype: DType, _ shape: [UInt64], _ comment: String = "") {
        guard let grid = Grid(dtype: dtype, shape: shape) else {
            Issue.record("\(dtype) \(shape) has no grid")
            return
        }
        let name: Comment = "\(dtype) \(shape)\(comment)"
        let wanted = naive(dtype, shape)
        let blocks = (0..<grid.count).map { grid.range($0) }
        #expect(blocks == wanted, name)
        #expect(grid.byteCount == dtype.byteCount(shape: shape), name)
        // What holds for any grid, whatever the rule: covered exactly, in order, in small pieces.
        #expect(blocks.first?.lowerBound ?? 0 == 0 && blocks.last?.upperBound ?? 0 == grid.byteCount, name)
        for (block, next) in zip(blocks, blocks.dropFirst()) { #expect(block.upperBound == next.lowerBound, name) }
        for (index, block) in blocks.enumerated() {
            #expect(!block.isEmpty && block.count <= Self.blockBytes, name)
            for offset in [block.lowerBound, (block.lowerBound + block.upperBound) / 2, block.upperBound - 1] {
                #expect(grid.block(at: offset) == index, name)
            }
            // No block ends inside an element.
            #expect(Int(block.lowerBound) * 8 % dtype.bits == 0, name)
        }
    }

    /// Elements a tensor of this dtype may have: their bits are whole bytes.
    private func isWhole(_ dtype: DType, _ shape: [UInt64]) -> Bool { Int(shape.reduce(1, *)) * dtype.bits % 8 == 0 }

    @Test(arguments: DType.allCases)
    func smallShapesAll(dtype: DType) {
        for first in 0...9 as ClosedRange<UInt64> {
            if isWhole(dtype, [first]) { check(dtype, [first]) }
            for second in 0...9 as ClosedRange<UInt64> {
                if isWhole(dtype, [first, second]) { check(dtype, [first, second]) }
                for third in [0, 1, 3] as [UInt64] where isWhole(dtype, [first, second, third]) {
                    check(dtype, [first, second, third])
                }
            }
        }
        if dtype.bits >= 8 { check(dtype, []) } else { #expect(Grid(dtype: dtype, shape: []) == nil) }
    }

    /// Rows around the size of a block, and around its half and its third.
    @Test(arguments: DType.allCases)
    func rowsAroundABlock(dtype: DType) {
        let fits = UInt64(Self.blockBytes * 8 / dtype.bits)
        for row in [fits / 3, fits / 2 - 1, fits / 2, fits / 2 + 1, fits - 4, fits - 1, fits, fits + 1, fits + 4, 2 * fits, 2 * fits + 3] {
            for rows in [1, 2, 3, 4, 5, 8, 9] as [UInt64] where isWhole(dtype, [rows, row]) {
                check(dtype, [rows, row])
                check(dtype, [rows, row, 1])
                check(dtype, [rows, 1, row])
            }
            if isWhole(dtype, [row]) { check(dtype, [row]) }
        }
        // Many short rows: one dimension, and two.
        check(dtype, [1 << 16])
        check(dtype, [5 << 14, 8])
    }

    @Test func randomShapes() {
        var generator = SeededGenerator(test: "randomShapes")
        var checked = 0
        while checked < 300 {
            let dtype = DType.allCases.randomElement(using: &generator)!
            let rank = generator.below(4)
            var shape = (0..<rank).map { _ in UInt64(1 + generator.below(1 << (1 + generator.below(18)))) }
            while shape.reduce(1, *) > 1 << 20 { shape[shape.indices.max { shape[$0] < shape[$1] }!] /= 3 }
            guard !shape.contains(0), isWhole(dtype, shape) else { continue }
            check(dtype, shape, ", seed \(generator.seed)")
            checked += 1
        }
    }

    @Test func nothingToCut() {
        for dtype in DType.allCases {
            for shape in [[0], [0, 5], [5, 0], [7, 3, 0], [0, 0], [0, 1 << 40, 1 << 40]] as [[UInt64]] {
                let grid = Grid(dtype: dtype, shape: shape)
                #expect(grid?.count == 0 && grid?.byteCount == 0, "\(dtype) \(shape)")
            }
        }
    }

    @Test func sizesThatOverflow() {
        for dtype in DType.allCases {
            for shape in [[.max, 2], [1 << 40, 1 << 40], [1 << 40, 1 << 40, 0], [1 << 32, 1 << 32]] as [[UInt64]] {
                #expect(Grid(dtype: dtype, shape: shape) == nil, "\(dtype) \(shape)")
            }
        }
        // Over 2^64 bits; the bytes alone would fit.
        #expect(Grid(dtype: .u8, shape: [1 << 62]) == nil)
        #expect(Grid(dtype: .f64, shape: [1 << 58]) == nil)
        // Ends inside a byte.
        for (dtype, count) in [(DType.f4, 1), (.f4, 7), (.f6E2M3, 1), (.f6E2M3, 2), (.f6E3M2, 5)] as [(DType, UInt64)] {
            #expect(Grid(dtype: dtype, shape: [count]) == nil, "\(dtype) \(count)")
        }
    }

    /// Sizes of tensors nobody has yet: counted without being listed.
    @Test func hugeTensors() throws {
        let terabyte = try #require(Grid(dtype: .u8, shape: [1 << 40]))
        #expect(terabyte.count == 1 << 22)
        let rows = try #require(Grid(dtype: .u8, shape: [1 << 30, 3 << 17]))
        #expect(rows.count == 2 << 30)
        for index in [0, 1, 2, 3, 1 << 20, 2 << 30 - 1] {
            let range = rows.range(index)
            #expect(range.count == (index % 2 == 0 ? 256 << 10 : 128 << 10), "\(index)")
            #expect(rows.block(at: range.lowerBound) == index && rows.block(at: range.upperBound - 1) == index)
        }
        let largest = try #require(Grid(dtype: .f4, shape: [1 << 61]))
        #expect(largest.byteCount == 1 << 60)
        #expect(largest.range(largest.count - 1).upperBound == 1 << 60)
        // Groups of rows so long that their bits overflow.
        let long = try #require(Grid(dtype: .f4, shape: [2, (1 << 60) - 1]))
        #expect(long.byteCount == (1 << 60) - 1)
        #expect(long.range(long.count - 1).upperBound == long.byteCount)
    }
}
