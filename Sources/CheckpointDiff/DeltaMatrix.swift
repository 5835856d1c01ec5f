internal import CKernels
internal import CheckpointStore
internal import TensorFormats

/// What one lane multiplies with.
final class MatrixLane {
    let first: TensorReader
    let second: TensorReader
    private var rooms: [UnsafeMutableRawBufferPointer] = (0..<3).map { _ in .init(start: nil, count: 0) }

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

/// Room that one matrix after another is kept in: fresh pages for each would take as long as some products.
final class KeptRoom {
    private var numbers = UnsafeMutableBufferPointer<Float>(start: nil, count: 0)

    deinit { numbers.deallocate() }

    /// Room for so many numbers, with what was there before.
    func take(_ count: Int) -> UnsafeMutablePointer<Float> {
        if numbers.count < count {
            numbers.deallocate()
            let bytes = UnsafeMutableRawPointer.allocate(byteCount: count * MemoryLayout<Float>.stride, alignment: 2 << 20)
            ck_wish_large_pages(bytes, count * MemoryLayout<Float>.stride)
            numbers = UnsafeMutableBufferPointer(start: bytes.bindMemory(to: Float.self, capacity: count), count: count)
        }
        return numbers.baseAddress!
    }
}

/// How a tensor moved, as a matrix in single precision that can be multiplied with: kept in memory, or read again each time where it is large.
final class DeltaMatrix {
    private let tensors: (first: TensorEntry, second: TensorEntry)
    private let readers: Lanes<MatrixLane>
    private let monitor: Monitor
    private let kernels = ck_active_gram_kernels().pointee
    private let difference: WordDifference
    /// Words of a row of the tensors.
    private let tensorColumns: Int
    private let rows: Int
    private let columns: Int
    /// All of d in panels, with the shorter side as columns. Nil where it is read again.
    private let kept: UnsafeMutablePointer<Float>?
    private let room: KeptRoom

    private static let panelRows = Int(ck_gram_rows)
    /// Words that are kept: 256 MiB.
    private static let keptWords = 64 << 20
    /// Sums of a product that lanes have under way: 64 MiB.
    private static let sums = 8 << 20
    private static let stripes = 16
    /// Words of a piece that is read at a time.
    private static let pieceWords = 256 << 10

    /// Nil for a tensor that is no matrix of floating-point numbers, or too wide.
    ///
    /// - Parameters:
    ///   - maxAbs: the largest |d|.
    ///   - room: where it is kept, as long as it is in use.
    ///   - keptWords: words of the largest matrix that is kept.
    init?(
        _ first: TensorEntry, _ second: TensorEntry, maxAbs: Double, room: KeptRoom, keptWords: Int = DeltaMatrix.keptWords,
        _ readers: Lanes<MatrixLane>, _ monitor: Monitor
    ) throws {
        guard let matrix = TensorMatrix(first), let difference = WordDifference(first.dtype, maxAbs: maxAbs) else { return nil }
        let isKept = matrix.rows * matrix.columns <= keptWords
        // What is kept can be turned as it is read.
        let isTurned = isKept && matrix.rows < matrix.columns
        rows = isTurned ? matrix.columns : matrix.rows
        columns = isTurned ? matrix.rows : matrix.columns
        guard BlockLanczos.isPossible(size: columns) else { return nil }
        tensors = (first, second)
        self.difference = difference
        self.readers = readers
        self.monitor = monitor
        tensorColumns = matrix.columns
        kept = isKept ? room.take((rows + DeltaMatrix.panelRows) * columns) : nil
        self.room = room
        if kept != nil { try isTurned ? keepTurned(matrix) : keep(matrix) }
    }

    private var panels: Int { (rows + DeltaMatrix.panelRows - 1) / DeltaMatrix.panelRows }

    func leadingSingularValues(_ count: Int) throws -> BlockLanczos.Found {
        var found = try BlockLanczos(size: columns).leading(count, rank: min(rows, columns), multiply: multiply)
        found.values = found.values.map { $0 / difference.scale }
        return found
    }

    private func keep(_ matrix: TensorMatrix) throws {
        nonisolated(unsafe) let kept = kept!
        let step = pieceRows
        try readers.forEach((rows + step - 1) / step) { lane, index in
            let range = (index * step)..<min((index + 1) * step, rows)
            try readPanels(range, lane, into: kept + range.lowerBound * columns)
        }
    }

    /// The columns of the tensors as rows: in a panel, a row of theirs is a few numbers that lie side by side as they did. Rows are long: pieces are
    /// cut within them.
    private func keepTurned(_ matrix: TensorMatrix) throws {
        nonisolated(unsafe) let kept = kept!
        let (width, panelRows) = (matrix.columns, DeltaMatrix.panelRows)
        let step = DeltaMatrix.pieceWords / panelRows * panelRows
        let piecesOfRow = (width + step - 1) / step
        try readers.forEach(matrix.rows * piecesOfRow) { lane, index in
            let (row, start) = (index / piecesOfRow, index % piecesOfRow * step)
            let range = start..<min(start + step, width)
            let piece = lane.room(1, range.count, of: Float.self)
            try readWords((row * width + range.lowerBound)..<(row * width + range.upperBound), lane, into: piece)
            for first in stride(from: 0, to: range.count, by: panelRows) {
                let count = min(panelRows, range.count - first)
                let target = kept + ((start + first) / panelRows * columns + row) * panelRows
                target.update(from: piece + first, count: count)
                if count < panelRows { (target + count).update(repeating: 0, count: panelRows - count) }
            }
        }
    }

    /// Rows of the tensors in a piece: whole panels.
    private var pieceRows: Int { max(1, DeltaMatrix.pieceWords / tensorColumns / DeltaMatrix.panelRows) * DeltaMatrix.panelRows }

    /// d in rows `range` of the tensors.
    private func read(_ range: Range<Int>, _ lane: MatrixLane, into target: UnsafeMutablePointer<Float>) throws {
        try readWords((range.lowerBound * tensorColumns)..<(range.upperBound * tensorColumns), lane, into: target)
    }

    private func readWords(_ range: Range<Int>, _ lane: MatrixLane, into target: UnsafeMutablePointer<Float>) throws {
        if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
        let wordBytes = tensors.first.dtype.bits / 8
        let bytes = UInt64(range.lowerBound * wordBytes)..<UInt64(range.upperBound * wordBytes)
        try lane.first.withBytes(of: tensors.first, bytes) { left in
            try lane.second.withBytes(of: tensors.second, bytes) { right in difference.floats(left, right, range.count, into: target) }
        }
    }

    /// The same in panels, of which the first begins with the range.
    private func readPanels(_ range: Range<Int>, _ lane: MatrixLane, into target: UnsafeMutablePointer<Float>) throws {
        let piece = lane.room(1, range.count * columns, of: Float.self)
        try read(range, lane, into: piece)
        for start in stride(from: 0, to: range.count, by: DeltaMatrix.panelRows) {
            kernels.pack(piece + start * columns, min(DeltaMatrix.panelRows, range.count - start), columns, target + start * columns)
        }
    }

    /// z = d^T (d v). Panels are added up in stripes, whatever the number of processors, so that the sums do not depend on it.
    private func multiply(_ v: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>) throws {
        let numbers = columns * Int(ck_gram_width)
        let stripes = max(1, min(DeltaMatrix.stripes, DeltaMatrix.sums / numbers, panels / 8))
        let sums = UnsafeMutablePointer<Double>.allocate(capacity: stripes * numbers)
        defer { sums.deallocate() }
        sums.update(repeating: 0, count: stripes * numbers)
        nonisolated(unsafe) let (input, output) = (v, sums)
        try readers.forEach(stripes) { lane, stripe in
            if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
            let range = (stripe * panels / stripes)..<((stripe + 1) * panels / stripes)
            let room = lane.room(0, columns * DeltaMatrix.panelRows, of: Double.self)
            let size = columns * DeltaMatrix.panelRows
            if let kept {
                kernels.multiply(kept + range.lowerBound * size, range.count, columns, input, output + stripe * numbers, room)
                return
            }
            let step = pieceRows / DeltaMatrix.panelRows
            for start in stride(from: range.lowerBound, to: range.upperBound, by: step) {
                let part = start..<min(start + step, range.upperBound)
                let piece = lane.room(2, part.count * size, of: Float.self)
                try readPanels((part.lowerBound * DeltaMatrix.panelRows)..<min(part.upperBound * DeltaMatrix.panelRows, rows), lane, into: piece)
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
struct WordDifference {
    /// A power of two that the numbers are multiplied by, so that none is too large or too small for single precision beside the largest.
    let scale: Double
    private let function: ck_difference_fn?
    private let wordBytes: Int
    private let table: ByteTable?

    static func isPossible(_ dtype: DType) -> Bool {
        switch dtype {
        case .bf16, .f16, .f32, .f64, .f8E4M3, .f8E5M2, .f8E4M3FNUZ, .f8E5M2FNUZ: true
        default: false
        }
    }

    init?(_ dtype: DType, maxAbs: Double, kernels: ck_movement_kernels = ck_active_movement_kernels().pointee) {
        guard WordDifference.isPossible(dtype) else { return nil }
        scale = maxAbs.isNormal ? Double(sign: .plus, exponent: min(1000, -maxAbs.exponent), significand: 1) : 1
        switch dtype {
        case .bf16: (function, wordBytes) = (kernels.difference_bf16, 2)
        case .f16: (function, wordBytes) = (kernels.difference_f16, 2)
        case .f32: (function, wordBytes) = (kernels.difference_f32, 4)
        case .f64: (function, wordBytes) = (kernels.difference_f64, 8)
        default: (function, wordBytes) = (nil, 1)
        }
        table = function == nil ? ByteTable.of(dtype) : nil
    }

    /// Second minus first, times the scale; 0 where one of them is not finite.
    func floats(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ count: Int, into target: UnsafeMutablePointer<Float>) {
        guard count > 0 else { return }
        if let function {
            function(first.baseAddress, second.baseAddress, count, scale, target)
        } else if let table {
            for index in 0..<count {
                let d = table.values[Int(second[index])] - table.values[Int(first[index])]
                target[index] = d.isNaN ? 0 : Float(d * scale)
            }
        }
    }
}
