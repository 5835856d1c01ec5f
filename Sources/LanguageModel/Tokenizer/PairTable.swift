/// Two numbers to one: the merges of a model, the edges of a trie. Open addressing in one array.
///
/// Hashes are seeded by the process, so that a file cannot be made to collide.
struct PairTable: Sendable {
    /// Key, value, key, value...
    private var slots: [UInt64]
    private var count = 0
    /// No pair of two 31-bit numbers has this key.
    private static let free = UInt64.max
    private static let seed = UInt64.random(in: .min ... .max)

    init(capacity: Int) {
        var count = 16
        while count * 2 < capacity * 3 { count *= 2 }
        slots = [UInt64](repeating: PairTable.free, count: count * 2)
    }

    @inline(__always)
    private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
        UInt64(UInt32(bitPattern: left)) &<< 32 | UInt64(UInt32(bitPattern: right))
    }

    @inline(__always)
    private static func hash(_ key: UInt64) -> Int {
        let product = (key ^ seed).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
        return Int(truncatingIfNeeded: product.high ^ product.low)
    }

    /// The value of a pair of numbers that are not negative. O(1) expected.
    @inline(__always)
    func find(_ left: Int32, _ right: Int32) -> UInt64? {
        let key = PairTable.key(left, right)
        return slots.withUnsafeBufferPointer { slots in
            let mask = slots.count / 2 &- 1
            var place = PairTable.hash(key) & mask
            while true {
                let found = slots[place &* 2]
                if found == key { return slots[place &* 2 &+ 1] }
                if found == PairTable.free { return nil }
                place = (place &+ 1) & mask
            }
        }
    }

    /// Sets the value of a pair, over one that it had.
    mutating func set(_ left: Int32, _ right: Int32, _ value: UInt64) {
        if (count + 1) * 3 > slots.count { grow() }
        store(PairTable.key(left, right), value)
    }

    private mutating func grow() {
        let old = slots
        slots = [UInt64](repeating: PairTable.free, count: old.count * 2)
        count = 0
        for place in stride(from: 0, to: old.count, by: 2) where old[place] != PairTable.free {
            store(old[place], old[place + 1])
        }
    }

    private mutating func store(_ key: UInt64, _ value: UInt64) {
        let mask = slots.count / 2 - 1
        var place = PairTable.hash(key) & mask
        while slots[place * 2] != PairTable.free {
            if slots[place * 2] == key {
                slots[place * 2 + 1] = value
                return
            }
            place = (place + 1) & mask
        }
        slots[place * 2] = key
        slots[place * 2 + 1] = value
        count += 1
    }
}
