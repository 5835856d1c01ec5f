/// A branch or leaf page of an LMDB 0.9 B+tree, with every offset checked.
struct TreePage {
    static let branchFlag: UInt16 = 0x01
    static let leafFlag: UInt16 = 0x02
    static let overflowFlag: UInt16 = 0x04
    private static let headerBytes = 16
    private static let nodeHeaderBytes = 8

    /// One entry. `value` is empty in a branch page; with `bigData` it is the page number of the value.
    struct Node {
        static let bigData: UInt16 = 0x01
        static let subTree: UInt16 = 0x02

        /// Bytes from the start of the page.
        var offset: Int
        var flags: UInt16
        var key: ArraySlice<UInt8>
        var value: ArraySlice<UInt8>
        /// Bytes of the value, wherever it lies.
        var valueCount: Int
        var child: UInt64
    }

    let isLeaf: Bool
    let count: Int
    private let bytes: [UInt8]
    private let upper: Int

    /// Nil when the page does not carry `number`, is neither branch nor leaf, or its bounds are impossible.
    init?(_ bytes: [UInt8], number: UInt64) {
        let flags = UInt16(littleEndian: bytes[...], at: 10)
        let lower = Int(UInt16(littleEndian: bytes[...], at: 12))
        let upper = Int(UInt16(littleEndian: bytes[...], at: 14))
        guard UInt64(littleEndian: bytes[...], at: 0) == number,
            flags == TreePage.leafFlag || flags == TreePage.branchFlag,
            lower >= TreePage.headerBytes, lower <= upper, upper <= bytes.count, lower % 2 == 0
        else { return nil }
        isLeaf = flags == TreePage.leafFlag
        count = (lower - TreePage.headerBytes) / 2
        // A branch page with fewer than two children is never written.
        guard isLeaf || count >= 2 else { return nil }
        self.bytes = bytes
        self.upper = upper
    }

    /// Entry `index`, or nil when it reaches out of the page.
    func node(_ index: Int) -> Node? {
        let offset = Int(UInt16(littleEndian: bytes[...], at: TreePage.headerBytes + index * 2))
        guard offset >= upper, offset + TreePage.nodeHeaderBytes <= bytes.count else { return nil }
        let low = UInt64(UInt16(littleEndian: bytes[...], at: offset))
        let high = UInt64(UInt16(littleEndian: bytes[...], at: offset + 2))
        let flags = UInt16(littleEndian: bytes[...], at: offset + 4)
        let keyStart = offset + TreePage.nodeHeaderBytes
        let keyEnd = keyStart + Int(UInt16(littleEndian: bytes[...], at: offset + 6))
        guard keyEnd <= bytes.count else { return nil }
        let key = bytes[keyStart..<keyEnd]
        guard isLeaf else {
            // In a branch page the flags hold the upper bits of the child's page number.
            let child = low | high << 16 | UInt64(flags) << 32
            return Node(offset: offset, flags: 0, key: key, value: [], valueCount: 0, child: child)
        }
        let valueCount = Int(low | high << 16)
        let inlineCount = flags & Node.bigData != 0 ? 8 : valueCount
        guard keyEnd + inlineCount <= bytes.count else { return nil }
        return Node(
            offset: offset, flags: flags, key: key, value: bytes[keyEnd..<keyEnd + inlineCount],
            valueCount: valueCount, child: 0)
    }

    /// Whether `nodes`, all of the page's, fill it from its upper bound to its end, as LMDB keeps them.
    func isTiled(by nodes: [Node]) -> Bool {
        var start = upper
        for node in nodes.sorted(by: { $0.offset < $1.offset }) {
            guard node.offset == start else { return false }
            let size = TreePage.nodeHeaderBytes + node.key.count + node.value.count
            start += size + size % 2
        }
        return start == bytes.count
    }

    /// Whether `a` sorts before `b`: by bytes, or as the free list's 8-byte transaction numbers.
    static func precedes(_ a: ArraySlice<UInt8>, _ b: ArraySlice<UInt8>, asInteger: Bool) -> Bool {
        guard asInteger else { return a.lexicographicallyPrecedes(b) }
        guard a.count == 8, b.count == 8 else { return false }
        return UInt64(littleEndian: a, at: 0) < UInt64(littleEndian: b, at: 0)
    }
}
