#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Which units of 64 words of a block differ from its base. Words of the others are not coded at all.
struct UnitMask {
    static let unitWords = 64

    enum Form: UInt8 {
        /// All units are coded.
        case none = 0
        /// One bit a unit, lowest first: 1 when it is coded.
        case bitmap = 1
        /// `u16` number of runs, then a `u16` each: units that are left out, coded, left out, ...
        case runs = 2
    }

    let unitBytes: Int
    let byteCount: Int
    /// Units that are coded, as runs.
    private(set) var coded: [Range<Int>] = []
    private let units: Int

    /// Bytes of the units that are coded.
    var codedBytes: Int {
        guard let last = coded.last else { return 0 }
        let whole = coded.reduce(0) { $0 + $1.count } * unitBytes
        return last.upperBound == units ? whole - (units * unitBytes - byteCount) : whole
    }

    private init(width: Int, byteCount: Int) {
        unitBytes = width * UnitMask.unitWords
        self.byteCount = byteCount
        units = (byteCount + unitBytes - 1) / unitBytes
    }

    /// Every unit.
    static func all(width: Int, byteCount: Int) -> UnitMask {
        var mask = UnitMask(width: width, byteCount: byteCount)
        if mask.units > 0 { mask.coded = [0..<mask.units] }
        return mask
    }

    /// The units in which `a` and `b`, of equal length, differ.
    init(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer, width: Int) {
        self.init(width: width, byteCount: a.count)
        for unit in 0..<units {
            let start = unit * unitBytes
            let count = min(unitBytes, byteCount - start)
            guard memcmp(a.baseAddress! + start, b.baseAddress! + start, count) != 0 else { continue }
            append(unit)
        }
    }

    private mutating func append(_ unit: Int) {
        if let last = coded.last, last.upperBound == unit {
            coded[coded.count - 1] = last.lowerBound..<(unit + 1)
        } else {
            coded.append(unit..<(unit + 1))
        }
    }

    /// The share of units that are not coded.
    var leftOut: Double { units == 0 ? 0 : 1 - Double(coded.reduce(0) { $0 + $1.count }) / Double(units) }

    /// The bytes of the coded units of `block`, one after the other.
    func gather(_ block: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) {
        var filled = 0
        for run in coded {
            let start = run.lowerBound * unitBytes
            let end = min(run.upperBound * unitBytes, byteCount)
            memcpy(target.baseAddress! + filled, block.baseAddress! + start, end - start)
            filled += end - start
        }
    }

    /// Undoes `gather`.
    func scatter(_ bytes: UnsafeRawBufferPointer, into block: UnsafeMutableRawBufferPointer) {
        var taken = 0
        for run in coded {
            let start = run.lowerBound * unitBytes
            let end = min(run.upperBound * unitBytes, byteCount)
            memcpy(block.baseAddress! + start, bytes.baseAddress! + taken, end - start)
            taken += end - start
        }
    }

    /// The shortest form and its bytes.
    func encoded() -> (Form, [UInt8]) {
        if coded == [0..<units] { return (.none, []) }
        var runs: [UInt8] = []
        var lengths: [Int] = []
        var end = 0
        for run in coded {
            lengths += [run.lowerBound - end, run.count]
            end = run.upperBound
        }
        if end < units { lengths.append(units - end) }
        for value in [lengths.count] + lengths { runs += [UInt8(truncatingIfNeeded: value), UInt8(value >> 8)] }
        let bitmapBytes = (units + 7) / 8
        if runs.count <= bitmapBytes { return (.runs, runs) }
        var bitmap = [UInt8](repeating: 0, count: bitmapBytes)
        for run in coded { for unit in run { bitmap[unit / 8] |= 1 << UInt8(unit % 8) } }
        return (.bitmap, bitmap)
    }

    /// Reads a mask from the start of `bytes`; returns it and the bytes it takes.
    static func read(
        _ form: Form, _ bytes: UnsafeRawBufferPointer, width: Int, byteCount: Int
    ) throws(CodecError) -> (UnitMask, Int) {
        var mask = UnitMask(width: width, byteCount: byteCount)
        switch form {
        case .none:
            return (.all(width: width, byteCount: byteCount), 0)
        case .bitmap:
            let count = (mask.units + 7) / 8
            guard count <= bytes.count else { throw CodecError(.malformed, "the mask is cut short") }
            for unit in 0..<(count * 8) where bytes[unit / 8] >> UInt8(unit % 8) & 1 == 1 {
                guard unit < mask.units else { throw CodecError(.malformed, "the mask names unit \(unit)") }
                mask.append(unit)
            }
            return (mask, count)
        case .runs:
            guard bytes.count >= 2 else { throw CodecError(.malformed, "the mask is cut short") }
            func value(_ index: Int) -> Int { Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))) }
            let count = value(0)
            guard 2 + 2 * count <= bytes.count else { throw CodecError(.malformed, "the mask is cut short") }
            var end = 0
            for index in 0..<count {
                let length = value(1 + index)
                guard length > 0 || index == 0, length <= mask.units - end else {
                    throw CodecError(.malformed, "a run of \(length) units in the mask")
                }
                if index % 2 == 1 { mask.coded.append(end..<(end + length)) }
                end += length
            }
            guard end == mask.units else { throw CodecError(.malformed, "the mask ends at unit \(end) of \(mask.units)") }
            return (mask, 2 + 2 * count)
        }
    }
}
