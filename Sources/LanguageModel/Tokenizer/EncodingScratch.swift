/// Memory that encoding one text needs and the next one uses again.
struct EncodingScratch: Sendable {
    var cache = WordCache()
    var merger = SymbolMerger()
    var classes = CharacterClasses()
}

/// The tokens of words seen before. Direct-mapped: a word displaces the one whose place it takes.
struct WordCache {
    /// Longer words are rarely seen twice.
    static let longestWord = 64
    private static let slotCount = 1 << 14
    /// Bytes and tokens kept before all is forgotten.
    private static let capacity = 1 << 20

    private struct Slot {
        var hash: UInt64 = 0
        var bytes: UInt32 = 0
        var ids: UInt32 = 0
        var byteCount: UInt16 = 0
        var idCount: UInt16 = 0
    }
    private var slots = [Slot](repeating: Slot(), count: slotCount)
    private var bytes: [UInt8] = []
    private var ids: [Int32] = []

    /// Appends the tokens of a word that is in the cache; false when it is not. O(n) in the word.
    @inline(__always)
    func append(_ word: UnsafeBufferPointer<UInt8>, _ hash: UInt64, to target: inout [Int32]) -> Bool {
        let slot = slots[Int(truncatingIfNeeded: hash) & (WordCache.slotCount &- 1)]
        guard slot.hash == hash, Int(slot.byteCount) == word.count else { return false }
        let isSame = bytes.withUnsafeBufferPointer {
            equal(UnsafeBufferPointer(rebasing: $0[Int(slot.bytes)..<Int(slot.bytes) &+ word.count]), word)
        }
        guard isSame else { return false }
        for index in Int(slot.ids)..<Int(slot.ids) &+ Int(slot.idCount) { target.append(ids[index]) }
        return true
    }

    mutating func insert(_ word: UnsafeBufferPointer<UInt8>, _ hash: UInt64, _ tokens: ArraySlice<Int32>) {
        if bytes.count + ids.count > WordCache.capacity {
            slots = [Slot](repeating: Slot(), count: WordCache.slotCount)
            bytes.removeAll(keepingCapacity: true)
            ids.removeAll(keepingCapacity: true)
        }
        slots[Int(truncatingIfNeeded: hash) & (WordCache.slotCount - 1)] = Slot(
            hash: hash, bytes: UInt32(bytes.count), ids: UInt32(ids.count), byteCount: UInt16(word.count),
            idCount: UInt16(tokens.count))
        bytes.append(contentsOf: word)
        ids.append(contentsOf: tokens)
    }
}
