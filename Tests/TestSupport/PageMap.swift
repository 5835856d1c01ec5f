/// Where the structures of a whole data file lie, told from the layout of LMDB 0.9 and without the code under test.
/// Only for files that are known to be sound.
public struct PageMap {
    public enum Kind { case branch, leaf, overflow }

    public struct Page {
        public var number: UInt64
        public var kind: Kind
        public var start: Int
        /// Offsets of the nodes inside the page, in the order of their keys.
        public var nodes: [Int]
    }

    /// What bytes are for.
    public enum Role: String, CaseIterable, Sendable {
        case metaIdentity = "meta: page number, flags, magic, version"
        case metaFreeTree = "meta: header of the free list"
        case metaMainTree = "meta: header of the main table"
        case metaLastPage = "meta: last page"
        case metaTransaction = "meta: transaction number"
        case metaMap = "meta: map address and size"
        case otherMeta = "older meta: all but its identity"
        case pageNumber = "page: number"
        case pagePad = "page: unused"
        case pageFlags = "page: flags"
        case pageLower = "page: lower bound"
        case pageUpper = "page: upper bound"
        case nodePointer = "page: node pointers"
        case branchChild = "branch node: child"
        case branchKeySize = "branch node: key size"
        case branchKey = "branch node: key"
        case leafValueSize = "leaf node: value size"
        case leafFlags = "leaf node: flags"
        case leafKeySize = "leaf node: key size"
        case leafKey = "leaf node: key"
        case leafValue = "leaf node: value"
        case largePage = "leaf node: page of a large value"
        case treeFlags = "table header: flags"
        case treePad = "table header: unused"
        case treeRest = "table header: depth, counts, root"
        case freeKey = "free list: transaction number"
        case freeEntry = "free list: count and pages"
        case overflowHeader = "large value: page number, flags, pages"
        case overflowPad = "large value: unused"
        case largeValue = "large value: bytes"
    }

    public private(set) var pageSize = 0
    public private(set) var pages: [Page] = []
    public private(set) var mainRoot: UInt64 = 0
    public private(set) var roles: [Role: [Range<Int>]] = [:]
    private let bytes: [UInt8]

    private func integer(_ at: Int, _ count: Int) -> UInt64 {
        (0..<count).reversed().reduce(0) { $0 << 8 | UInt64(bytes[at + $1]) }
    }

    private mutating func mark(_ role: Role, _ start: Int, _ count: Int) {
        if count > 0 { roles[role, default: []].append(start..<(start + count)) }
    }

    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        pageSize = Int(integer(40, 4))
        let newer = integer(144, 8) > integer(pageSize + 144, 8) ? 0 : pageSize
        let older = pageSize - newer
        for meta in [newer, older] {
            mark(.metaIdentity, meta, 8)
            mark(.metaIdentity, meta + 10, 2)
            mark(.metaIdentity, meta + 16, 8)
        }
        mark(.metaMap, newer + 24, 16)
        mark(.metaFreeTree, newer + 40, 48)
        mark(.metaMainTree, newer + 88, 48)
        mark(.metaLastPage, newer + 136, 8)
        mark(.metaTransaction, newer + 144, 8)
        mark(.otherMeta, older + 24, 128)
        mainRoot = integer(newer + 128, 8)
        walk(integer(newer + 80, 8), isFree: true, isMain: false)
        walk(mainRoot, isFree: false, isMain: true)
    }

    private mutating func walk(_ number: UInt64, isFree: Bool, isMain: Bool) {
        guard number != .max else { return }
        let start = Int(number) * pageSize
        let isLeaf = integer(start + 10, 2) == 2
        precondition(isLeaf || integer(start + 10, 2) == 1)
        let count = (Int(integer(start + 12, 2)) - 16) / 2
        let nodes = (0..<count).map { Int(integer(start + 16 + 2 * $0, 2)) }
        pages.append(Page(number: number, kind: isLeaf ? .leaf : .branch, start: start, nodes: nodes))
        mark(.pageNumber, start, 8)
        mark(.pagePad, start + 8, 2)
        mark(.pageFlags, start + 10, 2)
        mark(.pageLower, start + 12, 2)
        mark(.pageUpper, start + 14, 2)
        mark(.nodePointer, start + 16, 2 * count)
        for node in nodes.map({ start + $0 }) {
            let keyCount = Int(integer(node + 6, 2))
            guard isLeaf else {
                mark(.branchChild, node, 6)
                mark(.branchKeySize, node + 6, 2)
                mark(.branchKey, node + 8, keyCount)
                walk(integer(node, 6), isFree: isFree, isMain: isMain)
                continue
            }
            let flags = integer(node + 4, 2)
            let value = node + 8 + keyCount
            mark(.leafValueSize, node, 4)
            mark(.leafFlags, node + 4, 2)
            mark(.leafKeySize, node + 6, 2)
            mark(isFree ? .freeKey : .leafKey, node + 8, keyCount)
            if flags == 1 {
                let first = integer(value, 8)
                let head = Int(first) * pageSize
                pages.append(Page(number: first, kind: .overflow, start: head, nodes: []))
                mark(.largePage, value, 8)
                mark(.overflowHeader, head, 8)
                mark(.overflowPad, head + 8, 2)
                mark(.overflowHeader, head + 10, 6)
                if isFree {
                    mark(.freeEntry, head + 16, 8 + 8 * Int(integer(head + 16, 8)))
                } else {
                    mark(.largeValue, head + 16, Int(integer(node, 4)))
                }
            } else if flags == 2 {
                mark(.treePad, value, 4)
                mark(.treeFlags, value + 4, 2)
                mark(.treeRest, value + 6, 42)
                walk(integer(value + 40, 8), isFree: false, isMain: false)
            } else if isFree {
                mark(.freeEntry, value, 8 + 8 * Int(integer(value, 8)))
            } else {
                mark(.leafValue, value, Int(integer(node, 4)))
            }
        }
    }
}
