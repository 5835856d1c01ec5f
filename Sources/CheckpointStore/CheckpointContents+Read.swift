extension CheckpointContents {
    /// Reads all of a tensor's elements, in row-major order, into the caller's buffer: block by block, on all processors, each
    /// with one block decoded at a time.
    ///
    /// - Parameters:
    ///   - tensor: one of `tensors`.
    ///   - buffer: as many bytes as the tensor has.
    /// - Throws: `.damaged` when a block cannot be read: the buffer then holds nothing of use. `.failed` for a buffer of another
    ///   size.
    /// - Complexity: O(bytes x (depth + 1)), over the processors.
    public func read(_ tensor: TensorEntry, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        guard UInt64(buffer.count) == tensor.byteCount else {
            throw StoreError(.failed, "\(tensor.name): \(tensor.byteCount) bytes read into a buffer of \(buffer.count)")
        }
        try throwingStoreErrors {
            // A strided tensor is gathered whole by each reader: one does.
            let ranges = tensor.strides == nil ? tensor.blockRanges : [0..<tensor.byteCount]
            let lanes = Lanes { ReaderSlot() }
            nonisolated(unsafe) let buffer = buffer
            try lanes.forEach(ranges.count) { slot, index in
                let reader = try slot.reader ?? makeReader()
                slot.reader = reader
                let range = ranges[index]
                try reader.withBytes(of: tensor, range) { bytes in
                    UnsafeMutableRawBufferPointer(rebasing: buffer[Int(range.lowerBound)..<Int(range.upperBound)])
                        .copyMemory(from: bytes)
                }
            }
        }
    }

    /// A lane's reader, made when it has its first block.
    final class ReaderSlot {
        var reader: TensorReader?
    }
}
