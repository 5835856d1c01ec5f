/// Tokens that are found in a text before anything else is done to it, special ones among them.
struct AddedTokens: Sendable {
    struct Token: Sendable {
        var id: Int32
        var text: [UInt8]
        /// Left out of decoded text on request.
        var isSpecial: Bool
        /// Looked for after normalisation, as its text looks then.
        var isNormalized: Bool
        /// Takes the white space before it with it.
        var stripsLeft: Bool
        /// Takes the white space after it with it.
        var stripsRight: Bool
        /// Not inside of a word.
        var isSingleWord: Bool
    }

    /// In the order of the file.
    let tokens: [Token]
    /// What each stands for when it is decoded: to the library that is what it looks for.
    private let decoded: [[UInt8]]
    /// Indices in `tokens`.
    private let byID: [Int32: Int]
    private let byText: [[UInt8]: Int]
    private let raw: Trie
    private let normalized: Trie

    /// - Returns: nil where a token is nothing once it is normalised.
    init?(_ tokens: [Token], normalizer: Normalizer) {
        self.tokens = tokens
        byID = Dictionary(tokens.enumerated().map { ($1.id, $0) }) { $1 }
        byText = Dictionary(tokens.enumerated().map { ($1.text, $0) }) { $1 }
        let decoded = tokens.map { token in
            token.isNormalized ? token.text.withUnsafeBufferPointer { normalizer.apply($0) } ?? token.text : token.text
        }
        var (raw, normalized) = (Trie(), Trie())
        // Where two look the same, a special one comes first, then the order of the file.
        let order = tokens.indices.filter { tokens[$0].isSpecial } + tokens.indices.filter { !tokens[$0].isSpecial }
        for index in order {
            guard !decoded[index].isEmpty else { return nil }
            if tokens[index].isNormalized {
                normalized.insert(decoded[index], index)
            } else {
                raw.insert(decoded[index], index)
            }
        }
        (self.decoded, self.raw, self.normalized) = (decoded, raw, normalized)
    }

    subscript(id: Int32) -> Token? { byID[id].map { tokens[$0] } }

    /// The text that a decoder gets for the token with this id; nil where none has it.
    func decodedText(_ id: Int32) -> [UInt8]? { byID[id].map { decoded[$0] } }

    func id(text: [UInt8]) -> Int32? { byText[text].map { tokens[$0].id } }

    /// Calls `body` with the tokens found in `text` and with what lies between them, in order.
    ///
    /// At each place the longest token counts, and none overlaps another; white space that a token strips may be
    /// taken twice, as the library takes it.
    ///
    /// - Parameter normalized: whether `text` is normalised.
    /// - Complexity: O(n) times the length of the longest token, in the worst case.
    func split(
        _ text: UnsafeBufferPointer<UInt8>, normalized: Bool, _ body: (Piece) -> Void
    ) {
        let trie = normalized ? self.normalized : raw
        var (index, start) = (0, 0)
        // Where white space after a token ended: the next token may stand in it, and its end is known then.
        var spaceEnd = 0
        while let match = trie.next(text, from: index) {
            index = match.range.upperBound
            let token = tokens[match.token]
            if token.isSingleWord, AddedTokens.isInsideWord(text, match.range) { continue }
            var (from, to) = (match.range.lowerBound, match.range.upperBound)
            if token.stripsLeft { from = AddedTokens.spaceStart(text, from, after: start) }
            if token.stripsRight {
                spaceEnd = AddedTokens.spaceEnd(text, max(to, spaceEnd))
                to = spaceEnd
            }
            if start < from { body(.text(start..<from)) }
            body(.token(token.id))
            start = to
        }
        if start != text.count { body(.text(start..<text.count)) }
    }

    enum Piece {
        case token(Int32)
        case text(Range<Int>)
    }

    private static func isInsideWord(_ text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> Bool {
        range.lowerBound > 0 && isWord(UTF8Text.scalar(text, before: range.lowerBound).scalar)
            || range.upperBound < text.count && isWord(UTF8Text.scalar(text, at: range.upperBound).scalar)
    }

    /// `\w` as Unicode's regular expressions have it (UTS 18, annex C), in Unicode 16 as the library's.
    static func isWord(_ value: UInt32) -> Bool {
        guard let properties = UnicodeScalar(value)?.properties, let age = properties.age, age.major <= 16 else {
            return false
        }
        switch properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
        default: return properties.isAlphabetic || properties.isJoinControl
        }
    }

    private static func spaceStart(_ text: UnsafeBufferPointer<UInt8>, _ end: Int, after first: Int) -> Int {
        var start = end
        while start > first {
            let (scalar, length) = UTF8Text.scalar(text, before: start)
            guard UnicodeScalar(scalar)?.properties.isWhitespace == true else { break }
            start -= length
        }
        return start
    }

    static func spaceEnd(_ text: UnsafeBufferPointer<UInt8>, _ start: Int) -> Int {
        var end = start
        while end < text.count {
            let (scalar, length) = UTF8Text.scalar(text, at: end)
            guard UnicodeScalar(scalar)?.properties.isWhitespace == true else { break }
            end += length
        }
        return end
    }
}

/// Byte strings by their common beginnings.
private struct Trie: Sendable {
    /// The node after the root by the first byte; 0 where no string starts so.
    private var first = [Int32](repeating: 0, count: 256)
    /// The next node by a node and a byte.
    private var edges = PairTable(capacity: 0)
    /// The string that ends in each node; -1 where none does. Node 0 is the root.
    private var ends: [Int32] = [-1]

    /// Adds a string that is not empty; the first one of equals stays.
    mutating func insert(_ text: [UInt8], _ number: Int) {
        var node: Int32 = 0
        for byte in text {
            let next = child(node, byte)
            if next > 0 {
                node = next
                continue
            }
            let new = Int32(ends.count)
            ends.append(-1)
            if node == 0 { first[Int(byte)] = new } else { edges.set(node, Int32(byte), UInt64(new)) }
            node = new
        }
        if ends[Int(node)] < 0 { ends[Int(node)] = Int32(number) }
    }

    @inline(__always)
    private func child(_ node: Int32, _ byte: UInt8) -> Int32 {
        node == 0 ? first[Int(byte)] : edges.find(node, Int32(byte)).map { Int32(truncatingIfNeeded: $0) } ?? 0
    }

    /// The leftmost string from `start` on, the longest one there.
    func next(_ text: UnsafeBufferPointer<UInt8>, from start: Int) -> (range: Range<Int>, token: Int)? {
        guard ends.count > 1 else { return nil }
        return first.withUnsafeBufferPointer { first in
            for index in start..<max(start, text.count) where first[Int(text[index])] != 0 {
                var (node, place, end, found) = (first[Int(text[index])], index + 1, 0, Int32(-1))
                while node > 0 {
                    if ends[Int(node)] >= 0 { (end, found) = (place, ends[Int(node)]) }
                    guard place < text.count else { break }
                    node = child(node, text[place])
                    place += 1
                }
                if found >= 0 { return (index..<end, Int(found)) }
            }
            return nil
        }
    }
}
