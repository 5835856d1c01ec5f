internal import CKernels
internal import CheckpointStore
internal import TensorFormats

/// What one lane multiplies with.
final class MatrixLane {
    let first: TensorReader
    let second: TensorReader
    private var rooms: [UnsafeMutableRawBufferPointer] = [.init(start: nil, count: 0), .init(start: nil, count: 0)]

    init(_ first: TensorReader, _ second: TensorReader) {
        self.first = first
        self.second = second
    }

    deinit { for room in rooms { room.deallocate() } }

    /// Room number `index`, of at least so many numbers.
    func room<Number>(_ index: Int, _ count: Int, of _: Number.Type) -> UnsafeMutablePointer<Number> {
        let bytes = count * MemoryLayout<Number>.stride
        if rooms[index].count < bytes {
            rooms[index].deallocate()
            rooms[index] = .allocate(byteCount: bytes, alignment: 64)
        }
        return rooms[index].baseAddress!.bindMemory(to: Number.self, capacity: count)
    }
}

/// How a tensor moved, as a matrix in single precision that can be multiplied with: kept in memory, or read again each time where it is large.
final class DeltaMatrix {
    private let tensors: (first: TensorEntry, second: TensorEntry)
    private let readers: Lanes<MatrixLane>
    private let monitor: Monitor
    /// A power of two that the numbers are multiplied by, so that none is too large or too small for single precision beside the largest.
    private let scale: Double
    private let rows: Int
    private let columns: Int
    /// All of d, with the shorter side as columns. Nil where it is read again.
    private let kept: UnsafeMutablePointer<Float>?

    /// Words that are kept: 192 MiB.
    private static let keptWords = 48 << 20
    /// Sums of a product that lanes have under way: 64 MiB.
    private static let sums = 8 << 20
    private static let stripes = 16
    /// Words of a piece that is read at a time.
    private static let pieceWords = 256 << 10

    /// Nil for a tensor that is no matrix of floating-point numbers, or too wide.
    ///
    /// - Parameter maxAbs: the largest |d|.
    init?(_ first: TensorEntry, _ second: TensorEntry, maxAbs: Double, _ readers: Lanes<MatrixLane>, _ monitor: Monitor) throws {
        guard let matrix = TensorMatrix(first), WordDifference.isPossible(first.dtype) else { return nil }
        let isKept = matrix.rows * matrix.columns <= DeltaMatrix.keptWords
        // What is kept can be turned as it is read.
        let isTurned = isKept && matrix.rows < matrix.columns
        rows = isTurned ? matrix.columns : matrix.rows
        columns = isTurned ? matrix.rows : matrix.columns
        guard BlockLanczos.isPossible(size: columns) else { return nil }
        tensors = (first, second)
        scale = maxAbs.isNormal ? Double(sign: .plus, exponent: min(1000, -maxAbs.exponent), significand: 1) : 1
        self.readers = readers
        self.monitor = monitor
        kept = isKept ? .allocate(capacity: rows * columns) : nil
        if kept != nil { try keep(matrix, isTurned: isTurned) }
    }

    deinit { kept?.deallocate() }

    func leadingSingularValues(_ count: Int) throws -> [Double] {
        try BlockLanczos(size: columns).leading(count, rank: min(rows, columns), multiply: multiply).map { $0 / scale }
    }

    private func keep(_ matrix: TensorMatrix, isTurned: Bool) throws {
        nonisolated(unsafe) let kept = kept!
        let step = max(1, DeltaMatrix.pieceWords / matrix.columns)
        try readers.forEach((matrix.rows + step - 1) / step) { lane, index in
            let range = (index * step)..<min((index + 1) * step, matrix.rows)
            guard isTurned else {
                try read(range, matrix.columns, lane, into: kept + range.lowerBound * matrix.columns)
                return
            }
            let piece = lane.room(1, range.count * matrix.columns, of: Float.self)
            try read(range, matrix.columns, lane, into: piece)
            for column in 0..<matrix.columns {
                for (index, row) in range.enumerated() { kept[column * matrix.rows + row] = piece[index * matrix.columns + column] }
            }
        }
    }

    /// d in rows `range` of the tensors.
    private func read(_ range: Range<Int>, _ columns: Int, _ lane: MatrixLane, into target: UnsafeMutablePointer<Float>) throws {
        if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
        let dtype = tensors.first.dtype
        let bits = UInt64(columns) * UInt64(dtype.bits)
        let bytes = (UInt64(range.lowerBound) * bits / 8)..<(UInt64(range.upperBound) * bits / 8)
        try lane.first.withBytes(of: tensors.first, bytes) { left in
            try lane.second.withBytes(of: tensors.second, bytes) { right in
                WordDifference.floats(left, right, dtype, range.count * columns, scale: scale, into: target)
            }
        }
    }

    /// z = d^T (d v). Rows are added up in stripes, whatever the number of processors, so that the sums do not depend on it.
    private func multiply(_ v: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>) throws {
        let numbers = columns * Int(ck_gram_width)
        let stripes = max(1, min(DeltaMatrix.stripes, DeltaMatrix.sums / numbers, rows / 64))
        let sums = UnsafeMutablePointer<Double>.allocate(capacity: stripes * numbers)
        defer { sums.deallocate() }
        sums.update(repeating: 0, count: stripes * numbers)
        nonisolated(unsafe) let (input, output) = (v, sums)
        let kernels = ck_active_gram_kernels().pointee
        let step = max(1, DeltaMatrix.pieceWords / columns)
        try readers.forEach(stripes) { lane, stripe in
            let range = (stripe * rows / stripes)..<((stripe + 1) * rows / stripes)
            let room = lane.room(0, columns * Int(ck_gram_rows), of: Double.self)
            if let kept {
                if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
                kernels.multiply(kept + range.lowerBound * columns, range.count, columns, input, output + stripe * numbers, room)
                return
            }
            for start in stride(from: range.lowerBound, to: range.upperBound, by: step) {
                let part = start..<min(start + step, range.upperBound)
                let piece = lane.room(1, part.count * columns, of: Float.self)
                try read(part, columns, lane, into: piece)
                kernels.multiply(piece, part.count, columns, input, output + stripe * numbers, room)
            }
        }
        z.update(from: sums, count: numbers)
        for stripe in 1..<max(1, stripes) {
            for index in 0..<numbers { z[index] += sums[stripe * numbers + index] }
        }
    }
}

/// Differences of words as numbers.
enum WordDifference {
    static func isPossible(_ dtype: DType) -> Bool {
        switch dtype {
        case .bf16, .f16, .f32, .f64, .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ: true
        default: false
        }
    }

    /// Second minus first, times a scale; 0 where one of them is not finite.
    static func floats(
        _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ dtype: DType, _ count: Int, scale: Double,
        into target: UnsafeMutablePointer<Float>
    ) {
        func each<Word: FixedWidthInteger>(_: Word.Type, _ value: (Word) -> Double) {
            for index in 0..<count {
                let left = first.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self)
                let right = second.loadUnaligned(fromByteOffset: index * MemoryLayout<Word>.size, as: Word.self)
                let d = value(Word(littleEndian: right)) - value(Word(littleEndian: left))
                target[index] = d.isFinite ? Float(d * scale) : 0
            }
        }
        switch dtype {
        case .bf16: each(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
        case .f16: each(UInt16.self) { FloatWords.half($0) }
        case .f32: each(UInt32.self) { Double(Float(bitPattern: $0)) }
        case .f64: each(UInt64.self) { Double(bitPattern: $0) }
        default: each(UInt8.self) { ElementValue.value(UInt64($0), dtype) }
        }
    }
}
