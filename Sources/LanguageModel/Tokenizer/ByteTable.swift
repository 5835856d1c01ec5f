/// Finds byte strings of an arena by their bytes: open addressing, no object per string.
///
/// Hashes are seeded by the process, so that a file cannot be made to collide.
struct ByteTable: Sendable {
    /// The upper half of a hash, then the entry's number plus one; 0 where a slot is free.
    private var slots: [UInt64]
    private(set) var count = 0

    private static let seed = UInt64.random(in: .min ... .max)

    /// Room for about `capacity` entries; it grows beyond.
    init(capacity: Int) {
        slots = [UInt64](repeating: 0, count: ByteTable.slotCount(for: capacity))
    }

    private static func slotCount(for entries: Int) -> Int {
        var count = 16
        while count * 2 < entries * 3 { count *= 2 }
        return count
    }

    /// A hash of all the bytes, eight at a time. O(n).
    @inline(__always)
    static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
        let raw = UnsafeRawBufferPointer(bytes)
        var state = seed ^ UInt64(truncatingIfNeeded: bytes.count)
        var index = 0
        while index &+ 8 <= raw.count {
            state = mix(state ^ raw.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            index &+= 8
        }
        var tail: UInt64 = 0
        var shift: UInt64 = 0
        while index < raw.count {
            tail |= UInt64(raw[index]) &<< shift
            shift &+= 8
            index &+= 1
        }
        return mix(state ^ tail ^ 0x9e37_79b9_7f4a_7c15)
    }

    @inline(__always)
    private static func mix(_ value: UInt64) -> UInt64 {
        let product = value.multipliedFullWidth(by: 0xd6e8_feb8_6659_fd93)
        return product.high ^ product.low
    }

    /// The entry whose bytes are these; nil where there is none.
    ///
    /// - Parameter entry: the bytes of an entry by its number.
    /// - Complexity: O(1) expected, and O(n) in the bytes.
    @inline(__always)
    func find(
        _ bytes: UnsafeBufferPointer<UInt8>, hash: UInt64, entry: (Int) -> UnsafeBufferPointer<UInt8>
    ) -> Int? {
        let mask = slots.count &- 1
        var place = Int(truncatingIfNeeded: hash >> 32) & mask
        while true {
            let slot = slots[place]
            if slot == 0 { return nil }
            if (slot ^ hash) >> 32 == 0 {
                let number = Int(slot & 0xffff_ffff) &- 1
                if equal(entry(number), bytes) { return number }
            }
            place = (place &+ 1) & mask
        }
    }

    /// Adds an entry that is not in the table yet.
    mutating func insert(_ number: Int, hash: UInt64) {
        if (count + 1) * 3 > slots.count * 2 {
            let old = slots
            slots = [UInt64](repeating: 0, count: old.count * 2)
            for slot in old where slot != 0 { place(slot) }
        }
        place((hash & 0xffff_ffff_0000_0000) | UInt64(number + 1))
        count += 1
    }

    private mutating func place(_ slot: UInt64) {
        let mask = slots.count - 1
        var place = Int(truncatingIfNeeded: slot >> 32) & mask
        while slots[place] != 0 { place = (place + 1) & mask }
        slots[place] = slot
    }
}

/// Whether two runs of bytes are the same.
@inline(__always)
func equal(_ a: UnsafeBufferPointer<UInt8>, _ b: UnsafeBufferPointer<UInt8>) -> Bool {
    guard a.count == b.count else { return false }
    let (a, b) = (UnsafeRawBufferPointer(a), UnsafeRawBufferPointer(b))
    var index = 0
    while index &+ 8 <= a.count {
        guard
            a.loadUnaligned(fromByteOffset: index, as: UInt64.self)
                == b.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        else { return false }
        index &+= 8
    }
    while index < a.count {
        guard a[index] == b[index] else { return false }
        index &+= 1
    }
    return true
}
