internal import CheckpointStore
internal import TensorFormats

/// Writes a safetensors file, tensor by tensor, of what is in memory in single precision.
struct SafetensorsFile {
    struct Tensor {
        var name: String
        var dtype: DType
        var shape: [Int]
        var values: UnsafeBufferPointer<Float>
    }

    /// - Parameters:
    ///   - tensors: each named once.
    ///   - metadata: as the header's `__metadata__` has it.
    /// - Throws: `StoreError` of the disk; there is no file then.
    static func write(_ tensors: [Tensor], metadata: [(String, String)], to path: String) throws(StoreError) {
        var members: [JSONValue.Member] = [
            .init(key: "__metadata__", value: .object(metadata.map { .init(key: $0.0, value: .string($0.1)) }))
        ]
        var offset: UInt64 = 0
        for tensor in tensors {
            let end = offset + UInt64(tensor.values.count * tensor.dtype.bits / 8)
            members.append(
                .init(
                    key: tensor.name,
                    value: .object([
                        .init(key: "dtype", value: .string(tensor.dtype.name)),
                        .init(key: "shape", value: .array(tensor.shape.map { .unsigned(UInt64($0)) })),
                        .init(key: "data_offsets", value: .array([.unsigned(offset), .unsigned(end)])),
                    ])))
            offset = end
        }
        var header = Array(JSONValue.object(members).text.utf8)
        // Tensors begin at a multiple of eight bytes, as the reference library has it.
        while header.count % 8 != 0 { header.append(UInt8(ascii: " ")) }
        let file = try DurableFile(path)
        try file.append((0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) })
        try file.append(header)
        let piece = 1 << 18
        let words = UnsafeMutableRawBufferPointer.allocate(byteCount: piece * 4, alignment: 64)
        defer { words.deallocate() }
        for tensor in tensors {
            for start in stride(from: 0, to: tensor.values.count, by: piece) {
                let values = UnsafeBufferPointer(rebasing: tensor.values[start..<min(start + piece, tensor.values.count)])
                let bytes = UnsafeMutableRawBufferPointer(rebasing: words[..<(values.count * tensor.dtype.bits / 8)])
                Narrowing.words(values, tensor.dtype, into: bytes)
                try file.append(UnsafeRawBufferPointer(bytes))
            }
        }
        try file.finish()
    }
}
