extension ByteSource {
    /// The `count` bytes from `offset` on, as an array.
    ///
    /// The range is checked against the size of the source before memory is taken for it, so a length that a
    /// hostile file states costs no more than the file has bytes. Callers with a smaller limit check it first.
    ///
    /// - Throws: `.truncated` when the source ends first, `.io` when the system refuses.
    /// - Complexity: O(`count`).
    public func bytes(at offset: UInt64, count: Int) throws(FormatError) -> [UInt8] {
        try checkRange(at: offset, count: count)
        var failure: FormatError?
        let result = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            do throws(FormatError) {
                try read(
                    at: offset,
                    into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<count]))
                filled = count
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return result
    }

    /// Refuses a range that does not lie within the source, naming how many bytes are missing.
    func checkRange(at offset: UInt64, count wanted: Int) throws(FormatError) {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(wanted))
        guard !overflow, end <= count else {
            throw FormatError(
                .truncated, path: path, byte: min(offset, count),
                "the file ends at byte \(count), where \(wanted) bytes from byte \(offset) on are expected")
        }
    }
}

extension [UInt8] {
    /// The little-endian integer whose first byte is at `index`. All its bytes must be inside the array.
    func littleEndian<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, at index: Int) -> Value {
        precondition(index >= 0 && index <= count - MemoryLayout<Value>.size, "integer past the end of the bytes")
        return withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: index, as: Value.self)) }
    }
}
