/// One record of a zip's central directory.
struct ZipCentralHeader {
    var name: String
    var method: UInt16
    /// Bytes of the data as they lie in the archive.
    var size: UInt64
    var headerOffset: UInt64

    private static let signature: UInt32 = 0x0201_4b50
    private static let length = 46
    private static let localSignature: UInt32 = 0x0403_4b50
    private static let localLength = 30
    /// General purpose bits 0, 6 and 13: encryption of data, strong encryption, masked local headers.
    private static let encryptionFlags: UInt16 = 1 << 0 | 1 << 6 | 1 << 13
    /// General purpose bit 3: sizes come after the data, those of the local header are empty.
    private static let descriptorFlag: UInt16 = 1 << 3
    private static let zip64Extra: UInt16 = 1

    /// All records, which must fill the directory exactly.
    static func parseAll(_ bytes: [UInt8], end: ZipEndRecord, path: String) throws(FormatError) -> [ZipCentralHeader] {
        var headers: [ZipCentralHeader] = []
        var at = 0
        for _ in 0..<end.entryCount {
            headers.append(try parse(bytes, at: &at, origin: end.directoryOffset, path: path))
        }
        guard at == bytes.count else {
            throw FormatError(
                .malformed, path: path, byte: end.directoryOffset + UInt64(at),
                "\(bytes.count - at) bytes of the zip directory belong to no entry")
        }
        return headers
    }

    private static func parse(
        _ bytes: [UInt8], at: inout Int, origin: UInt64, path: String
    ) throws(FormatError) -> ZipCentralHeader {
        let start = at
        func refusal(_ code: FormatError.Code, _ reason: String) -> FormatError {
            FormatError(code, path: path, byte: origin + UInt64(start), reason)
        }
        guard bytes.count - start >= length, bytes.littleEndian(UInt32.self, at: start) == signature else {
            throw refusal(.malformed, "no zip directory record where one is expected")
        }
        let nameLength = Int(bytes.littleEndian(UInt16.self, at: start + 28))
        let extraLength = Int(bytes.littleEndian(UInt16.self, at: start + 30))
        let commentLength = Int(bytes.littleEndian(UInt16.self, at: start + 32))
        let nameStart = start + length
        let extraStart = nameStart + nameLength
        at = extraStart + extraLength + commentLength
        guard at <= bytes.count else { throw refusal(.malformed, "a zip directory record runs past the directory") }
        guard let name = String(validating: bytes[nameStart..<extraStart], as: UTF8.self) else {
            throw refusal(.malformed, "a zip entry's name is not UTF-8")
        }
        let flags = bytes.littleEndian(UInt16.self, at: start + 8)
        guard flags & encryptionFlags == 0 else {
            throw refusal(.unsupported, "zip entry \"\(SafePath.printable(name))\" is encrypted")
        }
        var size = UInt64(bytes.littleEndian(UInt32.self, at: start + 20))
        var plainSize = UInt64(bytes.littleEndian(UInt32.self, at: start + 24))
        var headerOffset = UInt64(bytes.littleEndian(UInt32.self, at: start + 42))

        // The zip64 extra field holds the values that are all ones here, in this order.
        var wide = zip64Values(bytes[extraStart..<extraStart + extraLength])[...]
        if plainSize == 0xffff_ffff { plainSize = wide.popFirst() ?? plainSize }
        if size == 0xffff_ffff { size = wide.popFirst() ?? size }
        if headerOffset == 0xffff_ffff { headerOffset = wide.popFirst() ?? headerOffset }

        let method = bytes.littleEndian(UInt16.self, at: start + 10)
        guard method != 0 || size == plainSize else {
            throw refusal(
                .malformed, "zip entry \"\(SafePath.printable(name))\" is stored as \(size) bytes but has \(plainSize)")
        }
        return ZipCentralHeader(name: name, method: method, size: size, headerOffset: headerOffset)
    }

    /// The 64-bit values of the zip64 extra field, or none.
    private static func zip64Values(_ extra: ArraySlice<UInt8>) -> [UInt64] {
        let bytes = Array(extra)
        var at = 0
        while bytes.count - at >= 4 {
            let id = bytes.littleEndian(UInt16.self, at: at)
            let end = at + 4 + Int(bytes.littleEndian(UInt16.self, at: at + 2))
            guard end <= bytes.count else { return [] }
            if id == zip64Extra {
                return stride(from: at + 4, through: end - 8, by: 8).map { bytes.littleEndian(UInt64.self, at: $0) }
            }
            at = end
        }
        return []
    }

    /// Where the entry's data starts, from its local header, which must agree with this record.
    ///
    /// - Parameter limit: the offset that the data must end before or at: that of the directory.
    func dataOffset(in source: some ByteSource, before limit: UInt64) throws(FormatError) -> UInt64 {
        let path = source.path
        let fixed = ZipCentralHeader.localLength + name.utf8.count
        let (nameEnd, overflow) = headerOffset.addingReportingOverflow(UInt64(fixed))
        guard !overflow, nameEnd <= limit else { throw refusal("starts past the zip directory", path: path) }
        let local = try source.bytes(at: headerOffset, count: fixed)
        guard local.littleEndian(UInt32.self, at: 0) == ZipCentralHeader.localSignature else {
            throw refusal("has no local header where the directory points", path: path)
        }
        let flags = local.littleEndian(UInt16.self, at: 6)
        let sizes = [18, 22].map { UInt64(local.littleEndian(UInt32.self, at: $0)) }
        guard local.littleEndian(UInt16.self, at: 8) == method,
            flags & ZipCentralHeader.encryptionFlags == 0,
            Int(local.littleEndian(UInt16.self, at: 26)) == name.utf8.count,
            local[ZipCentralHeader.localLength...].elementsEqual(name.utf8),
            flags & ZipCentralHeader.descriptorFlag != 0 || sizes[0] == 0xffff_ffff || sizes[0] == size,
            flags & ZipCentralHeader.descriptorFlag != 0 || method != 0 || sizes[1] == 0xffff_ffff || sizes[1] == size
        else { throw refusal("has a local header that disagrees with the directory", path: path) }
        let offset = nameEnd + UInt64(local.littleEndian(UInt16.self, at: 28))
        let (end, endOverflow) = offset.addingReportingOverflow(size)
        guard !endOverflow, end <= limit else { throw refusal("runs into the zip directory", path: path) }
        return offset
    }

    func refusal(_ reason: String, path: String) -> FormatError {
        FormatError(
            .malformed, path: path, byte: headerOffset, "zip entry \"\(SafePath.printable(name))\" \(reason)")
    }
}
