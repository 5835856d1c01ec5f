/// One thing wrong with a data file's pages.
public struct PageProblem: Sendable, Equatable, CustomStringConvertible {
    public var page: UInt64
    /// Bytes from the start of `data.mdb`.
    public var byte: UInt64
    public var reason: String

    public var description: String { "byte \(byte) (page \(page)): \(reason)" }
}

/// What a walk over the pages found.
public struct PageReport: Sendable {
    public var problems: [PageProblem]
    /// Pages the trees and values use, the two meta pages included.
    public var livePages: UInt64
    /// Pages on the free list.
    public var freePages: UInt64
    public var pageSize: Int
    /// The commit that was walked.
    public var transactionID: UInt64
}

/// Checks the pages of `data.mdb` without LMDB, which trusts them.
///
/// Every page reached from the two roots is read by pread and checked against the format of `mdb.c` 0.9:
/// its own number, its flags, its bounds, its keys' order. Each page is owned by one tree, one value or the
/// free list, once; page and entry counts agree with the tree headers. The contents of values are not
/// looked at: that is the business of the checksums inside them.
///
/// - Complexity: O(pages without the insides of large values); one bit of memory a page of the file.
public struct PageWalk: ~Copyable {
    /// More problems than this are not worth listing: the file is lost.
    static let maximumProblems = 1000
    private static let maximumDepth = 32

    private let file: DataFile
    private let header: DataFileHeader
    private var owned: [UInt64]
    private var problems: [PageProblem] = []
    private var live: UInt64 = 2
    private var free: UInt64 = 0

    /// Walks the newest commit of the data file at `path`.
    ///
    /// Sound while others write only if a read transaction of the same commit is held.
    /// - Throws: when the file cannot be read or its meta pages are damaged.
    public static func check(path: String) throws(LMDBError) -> PageReport {
        var walk = try PageWalk(file: DataFile(path: path))
        try walk.run()
        return PageReport(
            problems: walk.problems, livePages: walk.live, freePages: walk.free,
            pageSize: walk.header.pageSize, transactionID: walk.header.transactionID)
    }

    private init(file: consuming DataFile) throws(LMDBError) {
        header = try DataFileHeader.read(file)
        // A last page far past the end of the file is damage; the bitmap is sized by the file, not by it.
        let pages = min(header.lastPage + 1, file.size / UInt64(header.pageSize) + 1024)
        owned = [UInt64](repeating: 0, count: Int(pages / 64 + 1))
        self.file = file
    }

    private mutating func run() throws(LMDBError) {
        own(0, count: 1)
        own(1, count: 1)
        try walkTree(header.free, name: "the free list", isFreeList: true)
        try walkTree(header.main, name: "the main table", isFreeList: false)
        for page in 0...header.lastPage {
            guard page / 64 < UInt64(owned.count), problems.count < PageWalk.maximumProblems else { break }
            if owned[Int(page / 64)] & 1 << (page % 64) == 0 { report(page, "belongs to no tree, value or free list") }
        }
    }

    private mutating func report(_ page: UInt64, _ reason: String, at offset: Int = 0) {
        guard problems.count < PageWalk.maximumProblems else { return }
        let (start, overflow) = page.multipliedReportingOverflow(by: UInt64(header.pageSize))
        problems.append(PageProblem(page: page, byte: overflow ? .max : start &+ UInt64(offset), reason: reason))
    }

    /// Marks pages as taken; reports and returns false when one is out of range or taken already.
    @discardableResult
    private mutating func own(_ page: UInt64, count: UInt64) -> Bool {
        let (end, overflow) = page.addingReportingOverflow(count)
        guard !overflow, end <= header.lastPage + 1, (end + 63) / 64 <= UInt64(owned.count) else {
            report(page, "named as one of \(count) pages, but the file ends at page \(header.lastPage)")
            return false
        }
        for index in page..<end {
            let bit: UInt64 = 1 << (index % 64)
            guard owned[Int(index / 64)] & bit == 0 else {
                report(index, "owned twice")
                return false
            }
            owned[Int(index / 64)] |= bit
        }
        return true
    }

    /// Counts of what a tree was found to hold, to compare with its header.
    private struct Tally: Equatable, CustomStringConvertible {
        var branch: UInt64 = 0
        var leaf: UInt64 = 0
        var overflow: UInt64 = 0
        var entries: UInt64 = 0

        var description: String { "\(branch) branch, \(leaf) leaf and \(overflow) value pages with \(entries) entries" }
    }

    private mutating func walkTree(_ tree: TreeHeader, name: String, isFreeList: Bool) throws(LMDBError) {
        var tally = Tally()
        if tree.flags != (isFreeList ? TreeHeader.integerKeys : 0) {
            report(tree.root == TreeHeader.noRoot ? 0 : tree.root, "\(name) has impossible flags \(tree.flags)")
        }
        if tree.root != TreeHeader.noRoot {
            var pending = [Pending(page: tree.root, depth: 1, low: nil, high: nil)]
            while let next = pending.popLast() {
                guard problems.count < PageWalk.maximumProblems else { return }
                try walkPage(next, tree, name, isFreeList, &tally, &pending)
            }
        } else if tree.depth != 0 {
            report(0, "\(name) is empty, but \(tree.depth) deep")
        }
        let expected = Tally(
            branch: tree.branchPages, leaf: tree.leafPages, overflow: tree.overflowPages, entries: tree.entries)
        if tally != expected {
            let root = tree.root == TreeHeader.noRoot ? 0 : tree.root
            report(root, "\(name) counts \(expected), but holds \(tally)")
        }
    }

    /// A page still to be looked at. Its keys are `low` or later and before `high`, where its parents say so.
    private struct Pending {
        var page: UInt64
        var depth: Int
        var low: ArraySlice<UInt8>?
        var high: ArraySlice<UInt8>?
    }

    private mutating func walkPage(
        _ next: Pending, _ tree: TreeHeader, _ name: String, _ isFreeList: Bool, _ tally: inout Tally,
        _ pending: inout [Pending]
    ) throws(LMDBError) {
        let (number, depth) = (next.page, next.depth)
        guard own(number, count: 1) else { return }
        live += 1
        guard let bytes = try file.bytes(at: number * UInt64(header.pageSize), count: header.pageSize) else {
            return report(number, "lies past the end of the file")
        }
        guard let page = TreePage(bytes, number: number) else {
            return report(number, "is not the tree page it should be")
        }
        guard depth <= PageWalk.maximumDepth, depth <= Int(tree.depth), page.isLeaf == (depth == Int(tree.depth))
        else { return report(number, "lies at depth \(depth) of \(name), which is \(tree.depth) deep") }
        if page.isLeaf { tally.leaf += 1 } else { tally.branch += 1 }

        var nodes: [TreePage.Node] = []
        for index in 0..<page.count {
            guard let node = page.node(index) else {
                return report(number, "entry \(index) reaches out of its page")
            }
            nodes.append(node)
        }
        guard page.isTiled(by: nodes) else { return report(number, "its entries overlap or leave gaps") }
        var previous: ArraySlice<UInt8>?
        for (index, node) in nodes.enumerated() {
            // The first key of a branch page is left empty and stands for minus infinity.
            if page.isLeaf || index > 0 {
                if let previous, !TreePage.precedes(previous, node.key, asInteger: isFreeList) {
                    report(number, "keys out of order at entry \(index)", at: node.offset)
                }
                if next.low.map({ TreePage.precedes(node.key, $0, asInteger: isFreeList) }) ?? false
                    || next.high.map({ !TreePage.precedes(node.key, $0, asInteger: isFreeList) }) ?? false
                {
                    report(number, "entry \(index) belongs into another page", at: node.offset)
                }
                previous = node.key
            }
            if page.isLeaf {
                tally.entries += 1
                if isFreeList, node.key.count != 8 || UInt64(littleEndian: node.key, at: 0) > header.transactionID {
                    report(number, "pages freed by a transaction to come", at: node.offset)
                }
                try walkValue(node, on: number, isFreeList, isMain: name == "the main table", &tally)
            } else {
                let low = index == 0 ? next.low : node.key
                let high = index + 1 < nodes.count ? nodes[index + 1].key : next.high
                pending.append(Pending(page: node.child, depth: depth + 1, low: low, high: high))
            }
        }
    }

    private mutating func walkValue(
        _ node: TreePage.Node, on page: UInt64, _ isFreeList: Bool, isMain: Bool, _ tally: inout Tally
    ) throws(LMDBError) {
        switch node.flags {
        case 0:
            if isFreeList { readFreeList(node.value, on: page) }
        case TreePage.Node.bigData:
            let first = UInt64(littleEndian: node.value, at: 0)
            let needed = (16 + UInt64(node.valueCount) + UInt64(header.pageSize) - 1) / UInt64(header.pageSize)
            // A value made smaller in the transaction that wrote it keeps its pages: the head knows how many.
            guard first <= header.lastPage, let head = try file.bytes(at: first * UInt64(header.pageSize), count: 16),
                UInt64(littleEndian: head[...], at: 0) == first,
                UInt16(littleEndian: head[...], at: 10) == TreePage.overflowFlag,
                UInt64(UInt32(littleEndian: head[...], at: 12)) >= needed
            else { return report(first, "is not the head of the \(needed)-page value it should be") }
            let count = UInt64(UInt32(littleEndian: head[...], at: 12))
            guard own(first, count: count) else { return }
            live += count
            tally.overflow += count
            guard (first + count) * UInt64(header.pageSize) <= file.size else {
                return report(first, "its value reaches past the end of the file")
            }
            if isFreeList {
                let start = first * UInt64(header.pageSize) + 16
                if let list = try file.bytes(at: start, count: node.valueCount) { readFreeList(list[...], on: first) }
            }
        case TreePage.Node.subTree where isMain && node.valueCount == TreeHeader.byteCount:
            let name = String(decoding: node.key, as: UTF8.self)
            try walkTree(TreeHeader(node.value), name: "table \"\(name)\"", isFreeList: false)
        default:
            report(page, "an entry has impossible flags \(node.flags)", at: node.offset)
        }
    }

    /// An `MDB_IDL`: a count, then that many page numbers in descending order.
    private mutating func readFreeList(_ list: ArraySlice<UInt8>, on page: UInt64) {
        guard list.count >= 8, list.count % 8 == 0 else { return report(page, "a free list of \(list.count) bytes") }
        let count = UInt64(littleEndian: list, at: 0)
        guard count <= UInt64(list.count / 8 - 1) else {
            return report(page, "a free list names \(count) pages in \(list.count) bytes")
        }
        for index in 0..<Int(count) {
            let number = UInt64(littleEndian: list, at: 8 + index * 8)
            guard number > 1 else { return report(page, "a free list names a meta page") }
            if own(number, count: 1) { free += 1 }
        }
    }
}
