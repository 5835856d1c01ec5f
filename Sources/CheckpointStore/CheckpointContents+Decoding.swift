extension CheckpointContents {
    /// This checkpoint's weights, ready to be read over and over in place: as they are where they are mapped or kept raw, or
    /// outside a store; else decoded, once, and gathered where they have strides, into a file without a name beside the
    /// store's images, which is gone when the last reader is.
    ///
    /// Where they were decoded, no transaction is held while the result is in use, and tensors of the optimizer are left out.
    /// - Parameters:
    ///   - progress: bytes decoded, and bytes in all; called from any thread.
    ///   - isCancelled: asked before each block.
    /// - Throws: `.damaged` when a block cannot be read; `.failed` naming the directory when its disk is full; `.interrupted`.
    /// - Complexity: O(bytes x (depth + 1)) over the processors, and as many bytes of disk; memory for one block each.
    public func decodedAhead(
        isCancelled: @Sendable () -> Bool = { false }, progress: @Sendable (_ done: UInt64, _ total: UInt64) -> Void = { _, _ in }
    ) throws(StoreError) -> CheckpointContents {
        try decodedWhereNeeded(isCancelled: isCancelled, progress: progress) ?? self
    }

    /// The same; nil where there is nothing to be done.
    package func decodedWhereNeeded(
        isCancelled: @Sendable () -> Bool, progress: @Sendable (_ done: UInt64, _ total: UInt64) -> Void
    ) throws(StoreError) -> CheckpointContents? {
        // Outside a store there is no directory of ours to write to.
        guard case .store(let store, _) = sidecars.origin else { return nil }
        do throws(StoreError) {
            return try throwingStoreErrors {
                let weights = tensors.filter { $0.part == .weights }
                if try isInPlace(weights) { return nil }
                return try decoded(weights, in: store.path + "/images", isCancelled, progress)
            }
        } catch {
            guard error.code == .diskFull else { throw error }
            throw StoreError(.diskFull, error.reason, hint: "\(name) has no image: there must be room for its weights, decoded, while they are in use")
        }
    }

    /// Whether the elements of every tensor lie side by side, mapped or in blocks kept raw.
    private func isInPlace(_ tensors: [TensorEntry]) throws -> Bool {
        // Elements that are apart would be gathered again by each reader.
        guard tensors.allSatisfy({ $0.strides == nil }) else { return false }
        if isMapped { return true }
        let reader = try makeReader()
        return try tensors.allSatisfy { try $0.byteCount == 0 || reader.isKeptRaw($0) }
    }

    private func decoded(
        _ weights: [TensorEntry], in directory: String, _ isCancelled: @Sendable () -> Bool,
        _ progress: @Sendable (UInt64, UInt64) -> Void
    ) throws -> CheckpointContents {
        var mapped = weights
        var work: [(tensor: TensorEntry, range: Range<UInt64>, place: UInt64)] = []
        var places: [TensorIdentity: UInt64] = [:]
        var end: UInt64 = 0
        for index in mapped.indices {
            let tensor = weights[index]
            // Tied tensors are one.
            if let identity = tensor.identity, let place = places[identity] {
                mapped[index].fileOffset = place
            } else {
                let ranges = tensor.strides == nil ? tensor.blockRanges : [0..<tensor.byteCount]
                work += ranges.map { (tensor, $0, end + $0.lowerBound) }
                if let identity = tensor.identity { places[identity] = end }
                mapped[index].fileOffset = end
                end = (end + tensor.byteCount + 63) / 64 * 64
            }
            mapped[index].strides = nil
        }
        let file = try OpenFile(unnamedIn: directory)
        let lanes = Lanes { ReaderSlot() }
        let done = Locked<UInt64>(0)
        try lanes.forEach(work.count) { slot, index in
            if isCancelled() { throw StoreError(.interrupted, "\(name): interrupted") }
            let reader = try slot.reader ?? makeReader()
            slot.reader = reader
            let part = work[index]
            try reader.withBytes(of: part.tensor, part.range) { bytes in try file.write(bytes, at: part.place) }
            progress(
                done.withLock { done in
                    done += UInt64(part.range.count)
                    return done
                }, end)
        }
        // Tensors of no elements at the end have a place in the file too.
        try file.resize(to: max(end, 1))
        let map = try MappedFile(file)
        return CheckpointContents(
            self, tensors: mapped, maps: Dictionary(mapped.map { ($0.file, map) }, uniquingKeysWith: { first, _ in first }))
    }
}
