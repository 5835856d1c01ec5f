internal import CKernels
internal import CLMDB

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Room in a data file that no page in use takes.
public struct FreeSpace: Sendable, Equatable {
    /// On the disk still: later commits fill it again.
    public var reusableBytes: UInt64
    /// Given back to the file system by the call that says this.
    public var returnedBytes: UInt64
}

extension Environment {
    /// Gives long runs of free pages back to the file system, as holes in the data file. LMDB never makes a file shorter.
    ///
    /// Holds the writer's lock meanwhile. A page becomes part of a hole when it was free two commits ago, so that the tree of either meta
    /// page is whole, and was so before the oldest reader began, in whatever process: nobody ever reads it before it is written anew.
    /// The corresponding C functions are `mdb_reader_list` and `fallocate` with `FALLOC_FL_PUNCH_HOLE`.
    ///
    /// Runs of 256 KiB and more are given back: shorter holes scatter the file on the disk for little. While what is left free is more than a
    /// quarter of what is in use, shorter ones follow, down to 16 KiB.
    ///
    /// - Returns: zero returned on a file system without holes.
    /// - Complexity: O(free pages), one bit of memory for each page of the file.
    public func returnFreeSpace() throws(LMDBError) -> FreeSpace {
        let writer = try beginWrite()
        // Whoever begins to read from here on reads the last commit.
        let reader = try beginRead()
        let last = UInt64(mdb_txn_id(reader.handle))
        let freed = try min(last.subtractingSaturating(1), oldestReader() ?? last)
        let before = try allocatedBytes()
        let pages = try freePages(reader, freedBy: freed)
        let pageSize = UInt64(pages.pageSize)
        let used = UInt64(pages.pageCount - pages.freeCount) * pageSize
        var longer = UInt64.max
        search: for least in Environment.leastRuns {
            var runs = pages.runs(atLeast: max(1, least / pageSize))
            while let run = runs.next() {
                let count = UInt64(run.count) * pageSize
                guard count < longer else { continue }
                guard try punch(run.lowerBound * pageSize, count) else { break search }
            }
            longer = least
            if try allocatedBytes().subtractingSaturating(used) <= used / 4 { break }
        }
        let after = try allocatedBytes()
        writer.abort()
        return FreeSpace(
            reusableBytes: after.subtractingSaturating(used), returnedBytes: before.subtractingSaturating(after))
    }

    private static let leastRuns: [UInt64] = [256 << 10, 64 << 10, 16 << 10]

    /// The commit that the oldest reader sees, in whatever process; nil when nobody reads.
    private func oldestReader() throws(LMDBError) -> UInt64? {
        var oldest: UInt64?
        let code = withUnsafeMutablePointer(to: &oldest) { oldest in
            mdb_reader_list(
                handle,
                { line, context in
                    // "pid thread transaction", a dash for one that reads nothing, and a line of titles first.
                    let fields = String(cString: line!).split { $0 == " " || $0 == "\n" }
                    guard let number = fields.last.flatMap({ UInt64($0) }), fields.count == 3 else { return 0 }
                    let oldest = context!.assumingMemoryBound(to: UInt64?.self)
                    oldest.pointee = min(oldest.pointee ?? number, number)
                    return 0
                }, oldest)
        }
        guard code >= 0 else { throw LMDBError(code: code, operation: "mdb_reader_list") }
        return oldest
    }

    /// The free list as of `reader`'s commit; only pages that commit `freedBy` or an earlier one has freed are in the runs.
    private func freePages(_ reader: borrowing ReadTransaction, freedBy last: UInt64) throws(LMDBError) -> FreePages {
        var info = MDB_envinfo()
        var status = MDB_stat()
        mdb_env_info(handle, &info)
        mdb_env_stat(handle, &status)
        var pages = FreePages(pageCount: info.me_last_pgno + 1, pageSize: Int(status.ms_psize))
        var cursor: OpaquePointer?
        // The free list is table 0.
        try check(mdb_cursor_open(reader.handle, 0, &cursor), "mdb_cursor_open")
        defer { mdb_cursor_close(cursor) }
        var (key, value) = (MDB_val(), MDB_val())
        while true {
            let code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)
            if code == MDB_NOTFOUND { return pages }
            try check(code, "mdb_cursor_get")
            guard key.mv_size == 8, value.mv_size >= 8, value.mv_size % 8 == 0 else {
                throw .damaged("mdb_cursor_get", "a free list of \(value.mv_size) bytes")
            }
            let commit = key.mv_data.loadUnaligned(as: UInt64.self)
            let list = UnsafeRawBufferPointer(start: value.mv_data, count: value.mv_size)
            let count = list.loadUnaligned(as: UInt64.self)
            guard count < UInt64(list.count / 8) else { throw .damaged("mdb_cursor_get", "a free list names \(count) pages") }
            for index in 1..<(Int(count) + 1) {
                let page = list.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)
                guard page > 1, page < UInt64(pages.pageCount) else { throw .damaged("mdb_cursor_get", "a free list names page \(page)") }
                pages.add(Int(page), isOld: commit <= last)
            }
        }
    }

    /// Makes a hole where there is none yet; false when the file system has no holes.
    private func punch(_ start: UInt64, _ count: UInt64) throws(LMDBError) -> Bool {
        let code = ck_punch_hole(Int32(dataDescriptor), Int64(start), Int64(count))
        if code == EOPNOTSUPP || code == ENOSYS || code == EINVAL { return false }
        guard code == 0 else { throw LMDBError(code: code, operation: "fallocate") }
        return true
    }

    private func allocatedBytes() throws(LMDBError) -> UInt64 {
        var status = stat()
        guard fstat(Int32(dataDescriptor), &status) == 0 else { throw .system("fstat") }
        return UInt64(status.st_blocks) * 512
    }
}

/// One bit for each page of a data file, set where it is free.
private struct FreePages {
    let pageCount: Int
    let pageSize: Int
    /// Of all, the youngest too.
    private(set) var freeCount = 0
    private var old: [UInt64]

    init(pageCount: Int, pageSize: Int) {
        self.pageCount = pageCount
        self.pageSize = pageSize
        old = [UInt64](repeating: 0, count: pageCount / 64 + 1)
    }

    mutating func add(_ page: Int, isOld: Bool) {
        freeCount += 1
        if isOld { old[page / 64] |= 1 << (page % 64) }
    }

    func runs(atLeast least: UInt64) -> Runs { Runs(bits: old, least: Int(least)) }

    /// Runs of set bits, in order.
    struct Runs {
        let bits: [UInt64]
        let least: Int
        private var page = 0

        init(bits: [UInt64], least: Int) {
            self.bits = bits
            self.least = least
        }

        mutating func next() -> Range<UInt64>? {
            while let start = find(true) {
                page = start
                page = find(false) ?? 64 * bits.count
                if page - start >= least { return UInt64(start)..<UInt64(page) }
            }
            return nil
        }

        /// The first page from here on whose bit is `value`.
        private func find(_ value: Bool) -> Int? {
            var word = page / 64
            guard word < bits.count else { return nil }
            var rest = (value ? bits[word] : ~bits[word]) & (.max << UInt64(page % 64))
            while rest == 0 {
                word += 1
                guard word < bits.count else { return nil }
                rest = value ? bits[word] : ~bits[word]
            }
            return 64 * word + rest.trailingZeroBitCount
        }
    }
}

extension UInt64 {
    fileprivate func subtractingSaturating(_ other: UInt64) -> UInt64 { self > other ? self - other : 0 }
}
