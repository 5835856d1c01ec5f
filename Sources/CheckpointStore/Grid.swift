public import TensorFormats

/// How a tensor is cut into blocks: a function of dtype and shape alone, the same for ever.
///
/// A *row* is one index of the first dimension (of a scalar: the scalar). A block is as many whole rows as fit
/// into 256 KiB. Rows of types under a byte are first grouped until a group is whole bytes. A row (or group)
/// over 256 KiB is cut at that many bytes, for 6-bit types at the nearest multiple of three below.
public struct Grid: Sendable, Equatable {
    /// Bytes of the largest block.
    public static let blockBytes: UInt64 = 256 << 10

    /// Bytes of the tensor.
    public let byteCount: UInt64
    /// Bytes of a row, or of the smallest group of rows that ends on a byte.
    private let rowBytes: UInt64
    /// Bytes of a block that is not cut short: a multiple of `rowBytes`, or with `cutsRows` a part of a row.
    private let step: UInt64
    private let cutsRows: Bool

    /// Nil when the size overflows or ends inside a byte.
    public init?(dtype: DType, shape: [UInt64]) {
        guard let total = dtype.byteCount(shape: shape) else { return nil }
        byteCount = total
        let rowElements = DType.elementCount(shape: Array(shape.dropFirst())) ?? 0
        let (rowBits, overflow) = rowElements.multipliedReportingOverflow(by: UInt64(dtype.bits))
        guard total > 0, !overflow else {
            // Nothing to cut. (A zero dimension in front can hide an overflow behind it.)
            rowBytes = 1
            step = Grid.blockBytes
            cutsRows = false
            return
        }
        let group = Grid.rowsToWholeBytes(rowBits: rowBits)
        // A tensor of fewer rows than a group is one group; it ends on a byte all the same.
        let (groupBits, tooMany) = rowBits.multipliedReportingOverflow(by: group)
        rowBytes = tooMany ? total : min(groupBits / 8, total)
        cutsRows = rowBytes > Grid.blockBytes
        if cutsRows {
            step = dtype.bits == 6 ? Grid.blockBytes / 3 * 3 : Grid.blockBytes
        } else {
            step = Grid.blockBytes / rowBytes * rowBytes
        }
    }

    /// The fewest rows that end on a byte: 8 / gcd(bits, 8).
    private static func rowsToWholeBytes(rowBits: UInt64) -> UInt64 {
        8 >> UInt64(min(3, rowBits.trailingZeroBitCount))
    }

    private var blocksPerRow: UInt64 { (rowBytes + step - 1) / step }

    /// Blocks in all; 0 for a tensor without elements.
    public var count: Int {
        guard byteCount > 0 else { return 0 }
        guard cutsRows else { return Int((byteCount + step - 1) / step) }
        let last = byteCount % rowBytes
        return Int(byteCount / rowBytes * blocksPerRow + (last + step - 1) / step)
    }

    /// The bytes of block `index`, from the start of the tensor.
    public func range(_ index: Int) -> Range<UInt64> {
        let index = UInt64(index)
        guard cutsRows else {
            let start = index * step
            return start..<min(start + step, byteCount)
        }
        let row = index / blocksPerRow * rowBytes
        let start = row + index % blocksPerRow * step
        return start..<min(start + step, row + rowBytes, byteCount)
    }

    /// The block that holds byte `offset` of the tensor.
    public func block(at offset: UInt64) -> Int {
        guard cutsRows else { return Int(offset / step) }
        return Int(offset / rowBytes * blocksPerRow + offset % rowBytes / step)
    }
}
