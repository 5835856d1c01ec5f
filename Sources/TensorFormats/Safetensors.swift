/// Reads the header of a safetensors file.
///
/// Accepts and refuses exactly what the reference reader, version 0.8.0, does: an 8-byte little-endian length,
/// that many bytes of JSON, then the tensors' bytes without holes, overlaps or anything after them.
/// <https://github.com/huggingface/safetensors>
public enum Safetensors {
    /// Bytes of JSON a header may have, as in the reference reader.
    public static let maximumHeaderLength: UInt64 = 100_000_000

    /// Where the tensors of a file are. Only the header is read.
    ///
    /// Each tensor becomes one storage of its own, of its dtype and shape; tensors without elements become
    /// storages of no bytes.
    ///
    /// - Throws: `.truncated` with the number of missing bytes when the file is shorter than its header promises;
    ///   `.limit` for a header over 100,000,000 bytes; `.malformed`, naming tensor and byte, for everything
    ///   else the reference reader refuses; `.io` when the system refuses a read.
    /// - Complexity: O(n log n) in the bytes of the header, in memory proportional to them.
    public static func read(_ source: some ByteSource) throws(FormatError) -> TensorFile {
        let path = source.path
        guard source.count >= 8 else {
            throw FormatError(
                .truncated, path: path, byte: source.count,
                "\(8 - source.count) bytes are missing from the 8 bytes of the header's length")
        }
        let length = try source.bytes(at: 0, count: 8).littleEndian(UInt64.self, at: 0)
        guard length <= maximumHeaderLength else {
            throw FormatError(
                .limit, path: path, byte: 0, "a header of \(length) bytes is over the limit of \(maximumHeaderLength)",
                hint: "this may not be a safetensors file")
        }
        let dataStart = 8 + length
        guard dataStart <= source.count else {
            throw FormatError(
                .truncated, path: path, byte: source.count,
                "\(dataStart - source.count) bytes of the header's \(length) are missing",
                hint: "the file is half written or was cut")
        }
        let header = try source.bytes(at: 8, count: Int(length))
        let entries = SafetensorsEntry.lastOfEachName(try SafetensorsHeader.parse(header, path: path))
        return try lay(out: entries, dataStart: dataStart, size: source.count, path: path)
    }

    /// Checks that the tensors cover the data without holes or overlaps, and describes them.
    ///
    /// - Parameter entries: in the order of their names, each name once.
    private static func lay(
        out entries: [SafetensorsEntry], dataStart: UInt64, size: UInt64, path: String
    ) throws(FormatError) -> TensorFile {
        let order = entries.indices.sorted { left, right in
            let (a, b) = (entries[left], entries[right])
            return (a.begin, a.end, left) < (b.begin, b.end, right)
        }
        var storages: [TensorFile.Storage] = []
        storages.reserveCapacity(entries.count)
        var storageOf = [Int](repeating: 0, count: entries.count)
        var covered: UInt64 = 0
        for index in order {
            let entry = entries[index]
            func refusal(_ reason: String) -> FormatError {
                FormatError(
                    .malformed, path: path, tensor: SafePath.printable(entry.name), byte: 8 + UInt64(entry.position),
                    reason)
            }
            guard entry.end >= entry.begin else {
                throw refusal("data_offsets [\(entry.begin), \(entry.end)] run backwards")
            }
            guard entry.begin == covered else {
                throw refusal(
                    entry.begin > covered
                        ? "a hole: the data starts at offset \(entry.begin), the tensor before it ends at \(covered)"
                        : "an overlap: the data starts at offset \(entry.begin), before offset \(covered) where "
                            + "another tensor ends")
            }
            guard let expected = entry.dtype.byteCount(shape: entry.shape) else {
                throw refusal(
                    "the size of \(entry.dtype.name) \(shapeText(entry.shape)) overflows 64 bits or ends inside a byte")
            }
            guard entry.end - entry.begin == expected else {
                throw refusal(
                    "data_offsets hold \(entry.end - entry.begin) bytes where \(entry.dtype.name) "
                        + "\(shapeText(entry.shape)) takes \(expected)")
            }
            covered = entry.end
            storageOf[index] = storages.count
            // Offsets past 2^64 cannot be right, and are caught as missing bytes below.
            storages.append(
                TensorFile.Storage(
                    offset: dataStart.addingReportingOverflow(entry.begin).partialValue, length: expected,
                    dtype: entry.dtype, shape: entry.shape))
        }
        let present = size - dataStart
        guard present >= covered else {
            throw FormatError(
                .truncated, path: path, byte: size,
                "\(covered - present) bytes of the \(covered) bytes of tensor data are missing",
                hint: "the file is half written or was cut")
        }
        guard present == covered else {
            throw FormatError(
                .malformed, path: path, byte: dataStart + covered,
                "\(present - covered) trailing bytes after the last tensor")
        }
        let tensors = entries.indices.map { index in
            TensorFile.Tensor(
                name: entries[index].name, storage: storageOf[index], offset: 0, dtype: entries[index].dtype,
                shape: entries[index].shape, strides: nil)
        }
        return TensorFile(format: .safetensors, size: size, storages: storages, tensors: tensors)
    }
}

/// A shape as errors print it, cut to a length that keeps them one line.
func shapeText(_ shape: [UInt64]) -> String {
    let dims = shape.prefix(8).map(String.init).joined(separator: ", ")
    return shape.count > 8 ? "[\(dims), ... \(shape.count) dimensions]" : "[\(dims)]"
}
