/// Writes the primitive encodings of the format: little-endian integers, ids, strings with a length.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    mutating func put<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ id: ContentID) { bytes.append(contentsOf: id.bytes) }

    /// UTF-8 with a 32-bit length before it.
    mutating func put(_ text: String) {
        put(UInt32(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    mutating func put(raw: [UInt8]) { bytes.append(contentsOf: raw) }
}

/// Reads what `ByteWriter` writes, checking every length first.
struct ByteReader {
    private let bytes: [UInt8]
    private var offset = 0
    /// What is being read, for errors.
    private let what: String

    init(_ bytes: [UInt8], _ what: String) {
        self.bytes = bytes
        self.what = what
    }

    var remaining: Int { bytes.count - offset }

    func damage(_ reason: String) -> StoreError {
        StoreError(.damaged, "\(what): byte \(offset): \(reason)", hint: "run ckpt verify")
    }

    mutating func take<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self) throws -> T {
        let size = MemoryLayout<T>.size
        guard remaining >= size else { throw damage("ends inside an integer") }
        let value = bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: T.self) }
        offset += size
        return T(littleEndian: value)
    }

    mutating func takeBytes(_ count: Int) throws -> [UInt8] {
        guard count >= 0, remaining >= count else { throw damage("ends inside \(count) bytes") }
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    mutating func takeID() throws -> ContentID { try ContentID(takeBytes(ContentID.byteCount)) }

    mutating func takeString() throws -> String {
        let raw = try takeBytes(Int(take(UInt32.self)))
        guard let text = String(validating: raw, as: UTF8.self) else { throw damage("not UTF-8") }
        return text
    }

    /// A byte that is 0 or 1.
    mutating func takeFlag() throws -> Bool {
        let value: UInt8 = try take()
        guard value < 2 else { throw damage("flag \(value)") }
        return value == 1
    }

    /// A count of items of at least `itemBytes` each, refused when they could not fit in what is left.
    mutating func takeCount(itemBytes: Int) throws -> Int {
        let count = Int(try take(UInt32.self))
        guard count <= remaining / itemBytes else { throw damage("counts \(count) items in \(remaining) bytes") }
        return count
    }

    func finish() throws {
        guard remaining == 0 else { throw damage("\(remaining) bytes too many") }
    }
}
