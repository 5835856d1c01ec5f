internal import CKernels
internal import CheckpointStore
internal import TensorFormats

/// How much of a difference is measured.
public enum DiffDetail: Sendable {
    /// Counts and sums.
    case basic
    /// Distances in units in the last place and norms by row and column too.
    case full
}

/// A tensor as a matrix of words: its last dimension is the columns, all others are the rows. A complex number is two words.
struct TensorMatrix {
    var columns: Int
    var rows: Int
    /// Words of an element.
    var wordsOfElement: Int

    /// Nil for tensors of no or one dimension, or without elements.
    init?(_ tensor: TensorEntry) {
        guard tensor.shape.count > 1, let last = tensor.shape.last, last > 0, let count = DType.elementCount(shape: tensor.shape), count > 0 else {
            return nil
        }
        columns = Int(last)
        rows = Int(count / last)
        wordsOfElement = TensorComparison.wordsOfElement(tensor.dtype)
    }
}

/// Adds up how the words of two equally long runs of bytes differ.
struct TensorComparison {
    /// The sums; all but the first part stay zero where they are not asked for.
    private(set) var movement = ck_movement()
    /// Squares of d by row from the run's first on, and by column; only with a matrix.
    private(set) var rows: [Double]
    private(set) var columns: [Double]

    private let dtype: DType
    private let isFull: Bool
    private let compare: ck_compare_fn?
    private let move: ck_move_fn?
    /// Bytes of a word: complex numbers are compared as two.
    private let wordBytes: Int
    /// Words of a row; without a matrix more than there are.
    private let rowWords: Int
    private var row = 0
    private var column = 0

    /// - Parameters:
    ///   - matrix: where rows and columns are wanted.
    ///   - range: bytes of the tensor that are going to be added, in order.
    init(
        _ dtype: DType, _ detail: DiffDetail = .basic, matrix: TensorMatrix? = nil, range: Range<UInt64> = 0..<0,
        kernels: ck_kernels = ck_active_kernels().pointee, movement kernelsOfMovement: ck_movement_kernels = ck_active_movement_kernels().pointee
    ) {
        self.dtype = dtype
        switch dtype {
        case .bf16: (compare, move, wordBytes) = (kernels.compare_bf16, kernelsOfMovement.bf16, 2)
        case .f16: (compare, move, wordBytes) = (kernels.compare_f16, kernelsOfMovement.f16, 2)
        case .f32, .c64: (compare, move, wordBytes) = (kernels.compare_f32, kernelsOfMovement.f32, 4)
        case .f64, .c128: (compare, move, wordBytes) = (kernels.compare_f64, kernelsOfMovement.f64, 8)
        default: (compare, move, wordBytes) = (nil, nil, max(1, dtype.bits / 8))
        }
        isFull = detail == .full
        guard let matrix else {
            (rows, columns, rowWords) = ([0], [], Int.max)
            return
        }
        rowWords = matrix.columns * matrix.wordsOfElement
        let wordBits = UInt64(dtype.bits < 8 ? dtype.bits : 8 * wordBytes)
        let (first, end) = (Int(range.lowerBound * 8 / wordBits), Int(range.upperBound * 8 / wordBits))
        column = first % rowWords
        rows = [Double](repeating: 0, count: max(1, (end + rowWords - 1) / rowWords - first / rowWords))
        columns = [Double](repeating: 0, count: rowWords)
    }

    static func wordsOfElement(_ dtype: DType) -> Int { dtype == .c64 || dtype == .c128 ? 2 : 1 }

    /// Compares the words of `first` and `second`: the same whole number of elements in each.
    mutating func add(_ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer) {
        guard let left = first.baseAddress, let right = second.baseAddress else { return }
        let words = first.count * 8 / (dtype.bits < 8 ? dtype.bits : wordBytes * 8)
        if let compare, !isFull {
            compare(left, right, words, &movement.sums)
            return
        }
        // Taken out of self, so that the three can be written to at once.
        var sums = movement
        var (rowSums, columnSums) = ([Double](), [Double]())
        swap(&rowSums, &rows)
        swap(&columnSums, &columns)
        rowSums.withUnsafeMutableBufferPointer { rows in
            columnSums.withUnsafeMutableBufferPointer { columns in
                let rows = rows.baseAddress! + row
                let columns = columns.isEmpty ? nil : columns.baseAddress
                if let move {
                    move(left, right, words, rowWords, column, &sums, rows, columns)
                } else if let table = ByteTable.of(dtype) {
                    ck_move_bytes(left, right, words, rowWords, column, table.values, table.places, &sums, rows, columns)
                } else {
                    addElements(first, second, words, rows, columns, &sums)
                }
            }
        }
        movement = sums
        swap(&rowSums, &rows)
        swap(&columnSums, &columns)
        guard rowWords != Int.max else { return }
        self.row += (column + words) / rowWords
        self.column = (column + words) % rowWords
    }

    /// One element at a time: integers, and floats of less than a byte.
    private func addElements(
        _ first: UnsafeRawBufferPointer, _ second: UnsafeRawBufferPointer, _ words: Int, _ rows: UnsafeMutablePointer<Double>,
        _ columns: UnsafeMutablePointer<Double>?, _ movement: inout ck_movement
    ) {
        var (row, column) = (0, self.column)
        for index in 0..<words {
            let left = ElementValue.bits(first, index, dtype)
            let right = ElementValue.bits(second, index, dtype)
            if left != right { movement.sums.changed += 1 }
            let a = ElementValue.value(left, dtype)
            let b = ElementValue.value(right, dtype)
            if a.isFinite, b.isFinite {
                let d = ElementValue.difference(left, right, dtype) ?? (b - a)
                if a * b < 0 { movement.sums.sign_flips += 1 }
                movement.sums.sum_aa += a * a
                movement.sums.sum_bb += b * b
                movement.sums.sum_ab += a * b
                movement.sums.sum_dd += d * d
                movement.sums.max_abs = max(movement.sums.max_abs, d.magnitude)
                let distance = ElementValue.distance(left, right, dtype)
                movement.ulps += Double(distance)
                movement.countDistance(class: 64 - distance.leadingZeroBitCount)
                rows[row] += d * d
                if let columns { columns[column] += d * d }
            } else {
                movement.sums.nonfinite += 1
            }
            column += 1
            if column == rowWords {
                column = 0
                row += 1
            }
        }
    }
}

extension ck_movement {
    /// How many words there are at a distance of each class.
    var distanceCounts: [UInt64] {
        withUnsafeBytes(of: ulp_counts) { Array($0.bindMemory(to: UInt64.self)) }
    }

    mutating func countDistance(class index: Int) {
        withUnsafeMutableBytes(of: &ulp_counts) { $0.bindMemory(to: UInt64.self)[index] += 1 }
    }
}

/// The values of words of one byte, and their places in the order of values.
struct ByteTable {
    let values: [Double]
    let places: [Int16]

    private init(_ dtype: DType) {
        values = (0..<256).map {
            let value = ElementValue.value(UInt64($0), dtype)
            return value.isFinite ? value : .nan
        }
        places = (0..<256).map { Int16(ElementValue.place(UInt64($0), dtype)) }
    }

    private static let tables = Dictionary(uniqueKeysWithValues: DType.allCases.filter { $0.bits == 8 }.map { ($0, ByteTable($0)) })

    static func of(_ dtype: DType) -> ByteTable? { dtype.bits == 8 ? tables[dtype] : nil }
}
