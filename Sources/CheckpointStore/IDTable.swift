/// A number for each of some ids, in any order. Twelve bytes of memory for each, and a quarter more.
///
/// It keeps eight bytes of an id, so that two that begin alike share a number: of ten million ids, in one of hundreds of thousands of tables. For
/// sums that are shown to people, and for work that may be left undone.
struct IDTable {
    /// The first bytes of ids, zero for a free slot. Each stands in the first free slot from its own on, which is random: ids in a hostile
    /// store are whatever their writer liked.
    private var keys: [UInt64]
    private var values: [UInt32]
    private(set) var count = 0
    private let factor = UInt64.random(in: .min ... .max) | 1

    init() {
        keys = [UInt64](repeating: 0, count: 64)
        values = [UInt32](repeating: 0, count: 64)
    }

    private static func key(_ id: ContentID) -> UInt64 { withUnsafeBytes(of: id) { max(1, $0.load(as: UInt64.self)) } }

    private func home(_ key: UInt64) -> Int { Int((key &* factor).multipliedFullWidth(by: UInt64(keys.count)).high) }

    /// Where `key` stands, or the free slot where it would.
    private func slot(_ key: UInt64) -> Int {
        var slot = home(key)
        while keys[slot] != 0, keys[slot] != key { slot = slot + 1 == keys.count ? 0 : slot + 1 }
        return slot
    }

    /// The number of `id`, nil when it has none. O(1).
    subscript(id: ContentID) -> UInt32? {
        get {
            let slot = slot(IDTable.key(id))
            return keys[slot] == 0 ? nil : values[slot]
        }
        set {
            let key = IDTable.key(id)
            let slot = slot(key)
            guard let newValue else {
                if keys[slot] != 0 { remove(slot) }
                return
            }
            if keys[slot] == 0 {
                keys[slot] = key
                count += 1
            }
            values[slot] = newValue
            if 5 * count > 4 * keys.count { grow() }
        }
    }

    /// Frees a slot, and moves up those behind it that would not be found any more.
    private mutating func remove(_ removed: Int) {
        var free = removed
        var slot = removed
        while true {
            slot = slot + 1 == keys.count ? 0 : slot + 1
            guard keys[slot] != 0 else { break }
            let home = home(keys[slot])
            // Whether its own slot lies behind the free one, around the end too.
            let isBehind = free <= slot ? free < home && home <= slot : free < home || home <= slot
            if isBehind { continue }
            (keys[free], values[free]) = (keys[slot], values[slot])
            free = slot
        }
        keys[free] = 0
        count -= 1
    }

    /// By half: the old slots are there meanwhile.
    private mutating func grow() {
        let (oldKeys, oldValues) = (keys, values)
        let capacity = keys.count + keys.count / 2
        keys = [UInt64](repeating: 0, count: capacity)
        values = [UInt32](repeating: 0, count: capacity)
        for (key, value) in zip(oldKeys, oldValues) where key != 0 {
            let slot = slot(key)
            (keys[slot], values[slot]) = (key, value)
        }
    }
}
