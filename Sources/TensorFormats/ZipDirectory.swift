/// The entries of a zip archive, from its central directory, checked so that each can be used in place.
///
/// Reads zip64 and entries with data descriptors. What it checks goes past what an unzipper needs, since the
/// bytes are used where they lie: entries are inside the file, do not overlap one another or the directory, and
/// each has a local header that agrees with the directory. Checksums are not checked.
/// <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>
public struct ZipDirectory: Sendable {
    /// One file in the archive.
    public struct Entry: Sendable, Equatable {
        /// Relative, without `.`, `..` or empty components.
        public var name: String
        /// Bytes from the start of the archive to the entry's data.
        public var offset: UInt64
        /// Bytes of data as they lie in the archive.
        public var size: UInt64
        /// False when the data is compressed and so of no use in place.
        public var isStored: Bool
        /// Bytes from the start of the archive to the entry's local header.
        var headerOffset: UInt64
    }

    /// Entries an archive may have.
    public static let maximumEntries: UInt64 = 1_000_000
    /// Bytes the central directory may have.
    public static let maximumDirectorySize: UInt64 = 256 << 20

    /// By ascending offset. Entries for directories are left out.
    public let entries: [Entry]
    /// The name of the entry that comes first in the central directory; nil in an empty archive.
    public let firstName: String?

    private let indexOfName: [ExactName: Int]

    /// The entry called `name`, by its UTF-8 bytes.
    ///
    /// - Complexity: O(1).
    public subscript(name: String) -> Entry? {
        indexOfName[ExactName(name)].map { entries[$0] }
    }

    /// Reads and checks the directory of an archive that starts at the source's first byte.
    ///
    /// - Throws: `.truncated` when there is no end record, as in an archive that was cut; `.malformed`,
    ///   `.unsupported` (encryption, several disks), `.unsafeName`, `.limit`, `.io`.
    /// - Complexity: O(n log n) in the entries, with one read of the source for each.
    public static func read(_ source: some ByteSource) throws(FormatError) -> ZipDirectory {
        let path = source.path
        let end = try ZipEndRecord.find(in: source)
        let directory = try source.bytes(at: end.directoryOffset, count: Int(end.directorySize))
        var found = try ZipCentralHeader.parseAll(directory, end: end, path: path)
        let firstName = found.first?.name
        // Directories have names that end in a slash and no data.
        found.removeAll { $0.name.utf8.last == UInt8(ascii: "/") && $0.size == 0 }
        found.sort { $0.headerOffset < $1.headerOffset }

        var entries: [Entry] = []
        entries.reserveCapacity(found.count)
        var indexOfName: [ExactName: Int] = [:]
        indexOfName.reserveCapacity(found.count)
        var covered: UInt64 = 0
        for header in found {
            try SafePath.check(header.name, in: path)
            guard header.headerOffset >= covered else {
                throw header.refusal("overlaps the entry before it", path: path)
            }
            let offset = try header.dataOffset(in: source, before: end.directoryOffset)
            covered = offset + header.size
            guard indexOfName.updateValue(entries.count, forKey: ExactName(header.name)) == nil else {
                throw header.refusal("occurs twice", path: path)
            }
            entries.append(
                Entry(
                    name: header.name, offset: offset, size: header.size, isStored: header.method == 0,
                    headerOffset: header.headerOffset))
        }
        return ZipDirectory(entries: entries, firstName: firstName, indexOfName: indexOfName)
    }
}
