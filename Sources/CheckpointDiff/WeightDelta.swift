public import CheckpointStore
public import TensorFormats

/// How two tensors of one name, dtype and shape differ. `d` is the second minus the first.
public struct WeightDelta: Sendable {
    /// The tensor's.
    public var name: String
    /// The file that holds it in the first checkpoint.
    public var file: String
    public var part: PartKind
    public var dtype: DType
    public var shape: [UInt64]
    /// Numbers compared; a complex number is two.
    public var words: UInt64
    /// Words whose bits differ.
    public var changed: UInt64
    /// Words that are finite, non-zero and of opposite sign.
    public var signFlips: UInt64
    /// Pairs with a NaN or an infinity: counted here and in `changed`, left out of every sum.
    public var nonfinite: UInt64
    /// Sums of squares of the first and the second, of their products, and of squares of their difference. Infinite when
    /// f64 values of some 1e154 and more are squared.
    public var sumFirst: Double
    /// Sum of squares of the second.
    public var sumSecond: Double
    /// Sum of products of the first and the second.
    public var sumProduct: Double
    /// Sum of squares of d.
    public var sumDelta: Double
    /// The largest |d|.
    public var maxAbs: Double
    /// With `DiffDetail.full`.
    public var movement: Movement?
    /// After `addSpectra`, for matrices that moved.
    public var spectrum: Spectrum?

    /// The L2 norm of d.
    public var deltaL2: Double { sumDelta.squareRoot() }

    /// ||d|| / ||a||; 0 when nothing changed, infinite when a is all zero and d is not.
    public var relativeL2: Double {
        sumDelta == 0 ? 0 : (sumDelta / sumFirst).squareRoot()
    }

    /// The cosine between first and second; nil when one of them is all zero, or sums are infinite.
    public var cosine: Double? {
        guard sumFirst > 0, sumSecond > 0 else { return nil }
        if sumDelta == 0 { return 1 }
        let cosine = sumProduct / (sumFirst.squareRoot() * sumSecond.squareRoot())
        // Where sums are infinite.
        return cosine.isNaN ? nil : max(-1, min(1, cosine))
    }

    /// Adds the counts and sums of `other`, as for a group of tensors.
    public mutating func add(_ other: WeightDelta) {
        words += other.words
        changed += other.changed
        signFlips += other.signFlips
        nonfinite += other.nonfinite
        sumFirst += other.sumFirst
        sumSecond += other.sumSecond
        sumProduct += other.sumProduct
        sumDelta += other.sumDelta
        maxAbs = max(maxAbs, other.maxAbs)
        if let moved = other.movement { movement?.add(moved) }
        spectrum = nil
    }
}

/// A tensor that has no counterpart to compare with.
public struct TensorMismatch: Sendable {
    /// Added: only the second has it. Removed: only the first. Reshaped, retyped: both, in another shape or element type.
    public enum Reason: String, Sendable {
        case added, removed, reshaped, retyped
    }

    public var name: String
    public var reason: Reason
    /// The tensor in the first checkpoint; nil where it has none.
    public var first: TensorEntry?
    /// The tensor in the second; likewise.
    public var second: TensorEntry?
}

/// What two checkpoints differ in.
public struct CheckpointDelta: Sendable {
    /// Tensors with the same name, dtype and shape whose bytes were compared.
    public var compared: [WeightDelta]
    /// Tensors that are the same stored bytes: skipped without reading.
    public var identical: [TensorEntry]
    /// Tensors that could not be compared.
    public var mismatched: [TensorMismatch]

    /// Whether anything differs.
    public var isDifferent: Bool { !mismatched.isEmpty || compared.contains { $0.changed > 0 } }
}
