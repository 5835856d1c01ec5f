public import CheckpointStore
internal import TensorFormats

/// A weighted sum of checkpoints of the same tensors: a mean, an exponential moving average, or a task vector added to a model
/// (arXiv 2212.04089).
///
/// Sums are in double precision, in the order of the terms, and rounded once to the type of the first term's tensor, so that the result does
/// not depend on threads.
public struct WeightedSum: Sendable {
    /// A checkpoint and what it is multiplied by.
    public struct Term: Sendable {
        public var contents: CheckpointContents
        public var weight: Double

        public init(_ contents: CheckpointContents, weight: Double) {
            self.contents = contents
            self.weight = weight
        }
    }

    /// A tensor of the first term, and those of its name in the others.
    private struct Tensor {
        var entries: [TensorEntry]
        var isSummed: Bool
    }

    /// The first decides names, shapes and types.
    public let terms: [Term]
    private let tensors: [Tensor]
    /// Tensors of the weights that are not summed but the first term's: they hold no floating-point numbers.
    public let copied: [String]

    /// - Throws: `.badInput` naming the first tensor that a term lacks, or has in another shape or type; or what is no number.
    public init(_ terms: [Term]) throws(StoreError) {
        guard let first = terms.first else { throw StoreError(.badInput, "nothing to add up") }
        for term in terms where !term.weight.isFinite { throw StoreError(.badInput, "\(term.contents.name): a weight of \(term.weight)") }
        var found: [Tensor] = first.contents.tensors.filter { $0.part == .weights }.map {
            Tensor(entries: [$0], isSummed: FloatWords.byteCount($0.dtype) != nil)
        }
        for term in terms.dropFirst() {
            var others: [ExactName: TensorEntry] = [:]
            for tensor in term.contents.tensors where tensor.part == .weights { others[ExactName(tensor.name)] = tensor }
            for index in found.indices {
                let tensor = found[index].entries[0]
                guard let other = others.removeValue(forKey: ExactName(tensor.name)) else {
                    throw StoreError(.badInput, "\(term.contents.name): has no tensor \(tensor.name), which \(first.contents.name) has")
                }
                guard other.shape == tensor.shape, other.dtype == tensor.dtype else {
                    throw StoreError(
                        .badInput,
                        "\(term.contents.name): \(tensor.name) is \(other.dtype.name)\(other.shape), in \(first.contents.name) \(tensor.dtype.name)\(tensor.shape)")
                }
                found[index].entries.append(other)
            }
            if let name = others.keys.map(\.string).min() {
                throw StoreError(.badInput, "\(term.contents.name): has a tensor \(name), which \(first.contents.name) has not")
            }
        }
        guard !found.isEmpty else { throw StoreError(.badInput, "\(first.contents.name): has no tensors") }
        for tensor in found where tensor.isSummed && (!tensor.entries[0].file.hasSuffix(".safetensors") || tensor.entries[0].strides != nil) {
            throw StoreError(
                .badInput, "\(first.contents.name): \(tensor.entries[0].file) is no safetensors file, so it cannot be written",
                hint: "make the first one a model in safetensors")
        }
        self.terms = terms
        tensors = found
        copied = found.filter { !$0.isSummed }.map { $0.entries[0].name }
    }

    private struct Piece {
        var tensor: Int
        var range: Range<UInt64>
    }

    /// Gives the bytes of the sum, piece by piece, with the tensor of the first term that they belong to and where in it they begin. Tensors
    /// that are not summed are left out.
    ///
    /// - Parameters:
    ///   - sink: called on many threads.
    ///   - progress: called with bytes done and all, of one term.
    /// - Complexity: O(terms x bytes); memory: a few blocks a processor.
    public func write(
        monitor: Monitor = Monitor(), progress: (ByteProgress) -> Void = { _ in },
        sink: @escaping @Sendable (TensorEntry, UInt64, UnsafeRawBufferPointer) throws -> Void
    ) throws(StoreError) {
        let pieces = tensors.indices.flatMap { index in
            tensors[index].isSummed ? tensors[index].entries[0].blockRanges.map { Piece(tensor: index, range: $0) } : []
        }
        let total = pieces.reduce(0) { $0 + UInt64($1.range.count) }
        var done: UInt64 = 0
        let batch = 1024
        do {
            let readers = try Lanes { try terms.map { try $0.contents.makeReader() } }
            for start in stride(from: 0, to: pieces.count, by: batch) {
                if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
                let part = Array(pieces[start..<min(start + batch, pieces.count)])
                try readers.forEach(part.count) { readers, index in try sum(part[index], readers, sink) }
                done += part.reduce(0) { $0 + UInt64($1.range.count) }
                progress(ByteProgress(doneBytes: done, totalBytes: total))
            }
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.failed, "\(error)")
        }
    }

    private func sum(
        _ piece: Piece, _ readers: [TensorReader], _ sink: (TensorEntry, UInt64, UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let entries = tensors[piece.tensor].entries
        let dtype = entries[0].dtype
        let count = piece.range.count / FloatWords.byteCount(dtype)!
        try withUnsafeTemporaryAllocation(of: Double.self, capacity: count) { sums in
            for (index, term) in terms.enumerated() {
                try readers[index].withBytes(of: entries[index], piece.range) { bytes in
                    FloatWords.add(bytes, dtype, weight: term.weight, to: sums, isFirst: index == 0)
                }
            }
            try withUnsafeTemporaryAllocation(byteCount: piece.range.count, alignment: 64) { words in
                FloatWords.round(sums, dtype, into: words)
                try sink(entries[0], piece.range.lowerBound, UnsafeRawBufferPointer(words))
            }
        }
    }
}

extension WeightedSum {
    /// Of the exponential moving average e(t) = decay e(t-1) + (1 - decay) x(t), which begins with the first: the weight of each of `count`
    /// checkpoints, oldest first. They add up to 1.
    public static func movingAverageWeights(_ count: Int, decay: Double) -> [Double] {
        (0..<count).map { index in
            var weight = index == 0 ? 1 : 1 - decay
            for _ in (index + 1)..<max(index + 1, count) { weight *= decay }
            return weight
        }
    }
}
