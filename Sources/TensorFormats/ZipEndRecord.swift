/// Where the central directory of a zip archive is, from the records at the archive's end.
struct ZipEndRecord {
    var entryCount: UInt64
    var directoryOffset: UInt64
    var directorySize: UInt64

    private static let signature: UInt32 = 0x0605_4b50
    private static let locatorSignature: UInt32 = 0x0706_4b50
    private static let zip64Signature: UInt32 = 0x0606_4b50
    private static let length = 22
    private static let locatorLength: UInt64 = 20
    private static let zip64Length: UInt64 = 56
    /// The end record ends with a comment of up to this many bytes.
    private static let maximumComment = 0xffff

    /// Finds the end record, and the zip64 one where there is one, and checks what they say against the source.
    static func find(in source: some ByteSource) throws(FormatError) -> ZipEndRecord {
        let path = source.path
        let tailLength = Int(min(source.count, UInt64(length + maximumComment)))
        let tail = try source.bytes(at: source.count - UInt64(tailLength), count: tailLength)
        // The last record whose comment ends with the archive.
        let candidates = stride(from: tailLength - length, through: 0, by: -1)
        guard
            let start = candidates.first(where: { at in
                tail.littleEndian(UInt32.self, at: at) == signature
                    && Int(tail.littleEndian(UInt16.self, at: at + 20)) == tailLength - length - at
            })
        else {
            throw FormatError(
                .truncated, path: path, byte: source.count, "the zip archive has no end record: its end is missing",
                hint: "the file is half written or was cut")
        }
        let position = source.count - UInt64(tailLength - start)
        var record = ZipEndRecord(
            entryCount: UInt64(tail.littleEndian(UInt16.self, at: start + 10)),
            directoryOffset: UInt64(tail.littleEndian(UInt32.self, at: start + 16)),
            directorySize: UInt64(tail.littleEndian(UInt32.self, at: start + 12)))
        var limit = position
        if let zip64 = try findZip64(in: source, before: position) {
            guard agrees(record.entryCount, zip64.record.entryCount, mask: 0xffff),
                agrees(record.directoryOffset, zip64.record.directoryOffset, mask: 0xffff_ffff),
                agrees(record.directorySize, zip64.record.directorySize, mask: 0xffff_ffff)
            else {
                throw FormatError(.malformed, path: path, byte: position, "the two end records of the zip disagree")
            }
            record = zip64.record
            limit = zip64.position
        } else {
            let disks = tail.littleEndian(UInt32.self, at: start + 4)
            guard disks == 0, tail.littleEndian(UInt16.self, at: start + 8) == record.entryCount else {
                throw FormatError(.unsupported, path: path, byte: position, "a zip archive of several disks")
            }
        }
        try record.check(before: limit, path: path)
        return record
    }

    private static func findZip64(
        in source: some ByteSource, before position: UInt64
    ) throws(FormatError) -> (record: ZipEndRecord, position: UInt64)? {
        guard position >= locatorLength else { return nil }
        let locatorPosition = position - locatorLength
        let locator = try source.bytes(at: locatorPosition, count: Int(locatorLength))
        guard locator.littleEndian(UInt32.self, at: 0) == locatorSignature else { return nil }
        let start = locator.littleEndian(UInt64.self, at: 8)
        let (end, overflow) = start.addingReportingOverflow(zip64Length)
        guard !overflow, end <= locatorPosition else {
            throw FormatError(
                .malformed, path: source.path, byte: locatorPosition, "the zip64 end record is not before its locator")
        }
        let bytes = try source.bytes(at: start, count: Int(zip64Length))
        guard bytes.littleEndian(UInt32.self, at: 0) == zip64Signature else {
            throw FormatError(
                .malformed, path: source.path, byte: start, "no zip64 end record where its locator points")
        }
        let count = bytes.littleEndian(UInt64.self, at: 32)
        guard bytes.littleEndian(UInt64.self, at: 16) == 0, bytes.littleEndian(UInt64.self, at: 24) == count else {
            throw FormatError(.unsupported, path: source.path, byte: start, "a zip archive of several disks")
        }
        let record = ZipEndRecord(
            entryCount: count, directoryOffset: bytes.littleEndian(UInt64.self, at: 48),
            directorySize: bytes.littleEndian(UInt64.self, at: 40))
        return (record, start)
    }

    /// The short record's field is the long one's value, or all ones where that does not fit.
    private static func agrees(_ short: UInt64, _ long: UInt64, mask: UInt64) -> Bool {
        short == mask || short == long
    }

    private func check(before limit: UInt64, path: String) throws(FormatError) {
        guard entryCount <= ZipDirectory.maximumEntries else {
            throw FormatError(
                .limit, path: path, "a zip archive of \(entryCount) entries, over \(ZipDirectory.maximumEntries)")
        }
        let (end, overflow) = directoryOffset.addingReportingOverflow(directorySize)
        guard !overflow, end <= limit else {
            throw FormatError(
                .malformed, path: path, byte: directoryOffset,
                "the zip directory of \(directorySize) bytes does not end before its end record")
        }
        guard directorySize <= ZipDirectory.maximumDirectorySize else {
            throw FormatError(
                .limit, path: path, byte: directoryOffset,
                "a zip directory of \(directorySize) bytes, over \(ZipDirectory.maximumDirectorySize)")
        }
    }
}
