/// Which two characters can stand side by side inside a token that merging makes.
///
/// Where a text has two that cannot, no merge crosses, and the text can be cut there without changing a token. Models
/// that hand whole documents to merging (Llama 2, Gemma) are cut into words by this: no token of theirs has a letter
/// before a "▁".
struct CharacterJoins: Sendable {
    /// One bit for each hash of two characters: a bit set by another two only leaves a cut unused.
    private var bits: [UInt64]
    private static let hashBits: UInt64 = 20
    /// The characters up to U+FFFF that are tokens themselves. The rest become bytes or the unknown token, beside
    /// which nothing is cut.
    private var known: [UInt64]

    init() {
        bits = [UInt64](repeating: 0, count: 1 << CharacterJoins.hashBits / 64)
        known = [UInt64](repeating: 0, count: 0x10000 / 64)
    }

    @inline(__always)
    private static func hash(_ left: UInt32, _ right: UInt32) -> Int {
        let key = UInt64(left) &<< 32 | UInt64(right)
        return Int(truncatingIfNeeded: (key &* 0x9e37_79b9_7f4a_7c15) >> (64 &- hashBits))
    }

    /// Notes the characters of a token. O(n).
    mutating func add(_ token: UnsafeBufferPointer<UInt8>) {
        var (index, last) = (0, UInt32.max)
        while index < token.count {
            let (scalar, length) = UTF8Text.scalar(token, at: index)
            index += length
            if last != .max {
                let place = CharacterJoins.hash(last, scalar)
                bits[place >> 6] |= 1 << UInt64(place & 63)
            } else if index == token.count, scalar < 0x10000 {
                known[Int(scalar >> 6)] |= 1 << UInt64(scalar & 63)
            }
            last = scalar
        }
    }

    /// Whether no merge can cross between these two characters.
    @inline(__always)
    func separates(_ left: UInt32, _ right: UInt32) -> Bool {
        guard left | right < 0x10000,
            known[Int(left >> 6)] >> UInt64(left & 63) & known[Int(right >> 6)] >> UInt64(right & 63) & 1 != 0
        else { return false }
        let place = CharacterJoins.hash(left, right)
        return bits[place >> 6] >> UInt64(place & 63) & 1 == 0
    }
}
