#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Reads `data.mdb` by pread, outside LMDB, with every offset checked. Owns its descriptor.
struct DataFile: ~Copyable {
    let path: String
    let size: UInt64
    private let descriptor: Int32

    /// - Throws: with the code of `open` or `fstat`.
    init(path: String) throws(LMDBError) {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw .system("open") }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            let error = LMDBError.system("fstat")
            close(descriptor)
            throw error
        }
        self.path = path
        self.size = UInt64(max(0, status.st_size))
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The `count` bytes at `offset`, or nil when they reach past the end of the file.
    func bytes(at offset: UInt64, count: Int) throws(LMDBError) -> [UInt8]? {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(count))
        guard !overflow, end <= size else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let read = bytes.withUnsafeMutableBytes { buffer in
                pread(descriptor, buffer.baseAddress! + done, count - done, off_t(offset) + off_t(done))
            }
            if read < 0, errno == EINTR { continue }
            guard read >= 0 else { throw .system("pread") }
            guard read > 0 else { return nil }
            done += read
        }
        return bytes
    }
}

/// `MDB_db`: the root and the page counts of one B+tree. 48 bytes.
struct TreeHeader: Equatable {
    static let byteCount = 48
    /// `P_INVALID`: the root of an empty tree.
    static let noRoot = UInt64.max
    /// `MDB_INTEGERKEY`: the flags of the free list. Every table of ours has none.
    static let integerKeys: UInt16 = 0x08

    var pad: UInt32
    var flags: UInt16
    var depth: UInt16
    var branchPages: UInt64
    var leafPages: UInt64
    var overflowPages: UInt64
    var entries: UInt64
    var root: UInt64

    init(_ bytes: ArraySlice<UInt8>) {
        pad = UInt32(littleEndian: bytes, at: 0)
        flags = UInt16(littleEndian: bytes, at: 4)
        depth = UInt16(littleEndian: bytes, at: 6)
        branchPages = UInt64(littleEndian: bytes, at: 8)
        leafPages = UInt64(littleEndian: bytes, at: 16)
        overflowPages = UInt64(littleEndian: bytes, at: 24)
        entries = UInt64(littleEndian: bytes, at: 32)
        root = UInt64(littleEndian: bytes, at: 40)
    }
}

/// `MDB_meta`: the two pages at the start of `data.mdb`, written in turn; the newer one is the last commit.
struct DataFileHeader {
    var pageSize: Int
    var lastPage: UInt64
    var transactionID: UInt64
    var free: TreeHeader
    var main: TreeHeader

    private static let magic: UInt32 = 0xBEEF_C0DE
    private static let version: UInt32 = 1
    private static let metaFlag: UInt16 = 0x08

    /// The newer of the two meta pages.
    ///
    /// - Throws: `MDB_CORRUPTED` naming the byte when either page is no meta page.
    static func read(_ file: borrowing DataFile) throws(LMDBError) -> DataFileHeader {
        for _ in 0..<8 {
            let first = try readMeta(file, at: 0, expectedPage: 0)
            let second = try readMeta(file, at: UInt64(first.pageSize), expectedPage: 1)
            guard first.pageSize == second.pageSize else {
                throw .damaged("read meta pages", "the two meta pages of \(file.path) name different page sizes")
            }
            let (newer, older) = first.transactionID > second.transactionID ? (first, second) : (second, first)
            if newer.transactionID == 0 { return newer }
            // Written in turn, even transactions to page 0.
            if newer.transactionID - older.transactionID == 1, first.transactionID % 2 == 0 { return newer }
            // Damage, unless another process committed between the two reads.
        }
        throw .damaged("read meta pages", "\(file.path): its last two commits do not follow each other")
    }

    private static func readMeta(
        _ file: borrowing DataFile, at offset: UInt64, expectedPage: UInt64
    ) throws(LMDBError) -> DataFileHeader {
        let operation = "read meta pages"
        guard let page = try file.bytes(at: offset, count: 16 + 136) else {
            throw .damaged(operation, "\(file.path) is cut inside a meta page (byte \(file.size))")
        }
        guard UInt64(littleEndian: page[...], at: 0) == expectedPage,
            UInt16(littleEndian: page[...], at: 10) == metaFlag,
            UInt32(littleEndian: page[...], at: 16) == magic,
            UInt32(littleEndian: page[...], at: 20) == version
        else { throw .damaged(operation, "\(file.path): byte \(offset): not an LMDB meta page") }
        let free = TreeHeader(page[40..<88])
        let header = DataFileHeader(
            pageSize: Int(free.pad), lastPage: UInt64(littleEndian: page[...], at: 136),
            transactionID: UInt64(littleEndian: page[...], at: 144), free: free, main: TreeHeader(page[88..<136]))
        guard header.pageSize >= 512, header.pageSize <= 65536, header.pageSize.nonzeroBitCount == 1,
            header.lastPage >= 1, header.lastPage < 1 << 40
        else { throw .damaged(operation, "\(file.path): byte \(offset): impossible page size or page count") }
        return header
    }

    /// Refuses a data file whose pages do not all lie inside it. A missing or empty file is a new one.
    ///
    /// LMDB may leave free pages at the end unwritten, so a short file is walked before it is refused.
    static func checkLength(of path: String) throws(LMDBError) {
        guard access(path, F_OK) == 0 else { return }
        let file = try DataFile(path: path)
        guard file.size > 0 else { return }
        let header = try read(file)
        let promised = (header.lastPage + 1) * UInt64(header.pageSize)
        guard file.size < promised else { return }
        let report = try PageWalk.check(path: path)
        guard let problem = report.problems.first else { return }
        throw .damaged(
            "open", "\(path) is cut short: \(file.size) of \(promised) bytes are left; \(problem)")
    }
}

extension FixedWidthInteger {
    /// The integer stored least significant byte first, `offset` bytes into `bytes`, at any alignment.
    init(littleEndian bytes: ArraySlice<UInt8>, at offset: Int) {
        var value: Self = 0
        let start = bytes.startIndex + offset
        for index in (0..<MemoryLayout<Self>.size).reversed() {
            value = value << 8 | Self(truncatingIfNeeded: bytes[start + index])
        }
        self = value
    }
}
