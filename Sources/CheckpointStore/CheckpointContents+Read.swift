internal import Synchronization

/// A stretch of a tensor's elements in row-major order, and where it goes.
public struct TensorRead {
    /// One of the checkpoint's.
    public var tensor: TensorEntry
    /// Bytes from its first element on.
    public var offset: UInt64
    /// As many bytes as are read.
    public var buffer: UnsafeMutableRawBufferPointer

    public init(_ tensor: TensorEntry, offset: UInt64 = 0, into buffer: UnsafeMutableRawBufferPointer) {
        self.tensor = tensor
        self.offset = offset
        self.buffer = buffer
    }
}

extension CheckpointContents {
    /// Reads all of a tensor's elements, in row-major order, into the caller's buffer.
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
        try read([TensorRead(tensor, into: buffer)])
    }

    /// Reads stretches of tensors on all processors, however unlike their sizes: copied out of files where there are any, else
    /// block by block, each processor with one block decoded at a time.
    ///
    /// Files are read and not mapped: a read of what the system has in memory takes less than the faults of a fresh mapping, and
    /// an I/O error is thrown.
    ///
    /// - Parameter progress: bytes read; called on any thread.
    /// - Throws: `.damaged` when a block cannot be read, `.failed` for a stretch that is not all in its tensor, `.interrupted`: the buffers
    ///   then hold nothing of use.
    /// - Complexity: O(bytes x (depth + 1)), over the processors.
    public func read(
        _ reads: [TensorRead], monitor: Monitor = Monitor(), progress: @Sendable (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        try throwingStoreErrors {
            var pieces: [(read: Int, range: Range<UInt64>)] = []
            var total: UInt64 = 0
            for (index, read) in reads.enumerated() {
                let (end, overflow) = read.offset.addingReportingOverflow(UInt64(read.buffer.count))
                guard !overflow, end <= read.tensor.byteCount else {
                    throw StoreError(
                        .failed, "\(read.tensor.name): \(read.buffer.count) bytes from byte \(read.offset) on, of \(read.tensor.byteCount)")
                }
                total += UInt64(read.buffer.count)
                for range in pieceRanges(of: read.tensor, read.offset..<end) { pieces.append((index, range)) }
            }
            let lanes = Lanes { ReaderSlot() }
            let done = Atomic<UInt64>(0)
            nonisolated(unsafe) let reads = reads
            let parts = pieces
            try lanes.forEach(parts.count) { slot, index in
                try monitor.checkCancelled()
                let (read, range) = (reads[parts[index].read], parts[index].range)
                let start = Int(range.lowerBound - read.offset)
                let room = UnsafeMutableRawBufferPointer(rebasing: read.buffer[start..<(start + range.count)])
                if try !readFile(read.tensor, range, into: room) {
                    let reader = try slot.reader ?? makeReader()
                    slot.reader = reader
                    try reader.withBytes(of: read.tensor, range) { room.copyMemory(from: $0) }
                }
                progress(ByteProgress(doneBytes: done.add(UInt64(range.count), ordering: .relaxed).newValue, totalBytes: total))
            }
        }
    }

    /// Bytes of a file that one processor reads at a time.
    private static let pieceBytes: UInt64 = 2 << 20

    private func map(of tensor: TensorEntry) -> MappedFile? {
        if case .files(let maps, _) = origin { maps[tensor.file] } else { nil }
    }

    /// `range` of a tensor cut where it is best read.
    private func pieceRanges(of tensor: TensorEntry, _ range: Range<UInt64>) -> [Range<UInt64>] {
        guard !range.isEmpty else { return [] }
        // One with strides is gathered whole by whoever reads it.
        if tensor.strides != nil { return [range] }
        if map(of: tensor) != nil {
            return stride(from: range.lowerBound, to: range.upperBound, by: Int(CheckpointContents.pieceBytes)).map {
                $0..<min($0 + CheckpointContents.pieceBytes, range.upperBound)
            }
        }
        return tensor.blockRanges.map { $0.clamped(to: range) }.filter { !$0.isEmpty }
    }

    /// Reads from the tensor's file; false where there is none or its elements do not lie side by side.
    private func readFile(_ tensor: TensorEntry, _ range: Range<UInt64>, into room: UnsafeMutableRawBufferPointer) throws -> Bool {
        guard tensor.strides == nil, let map = map(of: tensor) else { return false }
        try map.read(at: tensor.fileOffset + range.lowerBound, into: room)
        return true
    }

    /// A lane's reader, made when it has its first block.
    final class ReaderSlot {
        var reader: TensorReader?
    }
}
