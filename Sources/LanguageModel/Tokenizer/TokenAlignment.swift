extension Tokenizer {
    /// The tokens of a text that comes in parts, and where each part's tokens are.
    ///
    /// The parts are joined first, so the tokens are those of the whole text. A part's tokens are all that hold a byte
    /// of it, and spaces that the tokenizer puts before it: neighbours share a token that reaches over their border, and an
    /// empty part has none.
    ///
    /// - Returns: no ranges where tokens cannot be laid over the text: it has characters that the tokenizer leaves out, or
    ///   parts that compose with each other.
    /// - Complexity: as of `encode`.
    public func encode(parts: [String]) -> (ids: [Int32], ranges: [Range<Int>]?) {
        let ids = encode(parts.joined(), addSpecialTokens: false)
        var text: [UInt8] = []
        var borders = [0]
        for part in parts {
            let bytes = Array(part.utf8)
            text += bytes.withUnsafeBufferPointer { file.normalizer.composed($0) } ?? bytes
            borders.append(text.count)
        }
        var alignment = TokenAlignment(text: text)
        var tokens: [Range<Int>] = []
        tokens.reserveCapacity(ids.count)
        for id in ids {
            let start = alignment.position
            guard advance(&alignment, over: id) || advance(&alignment, overUnknown: id, from: start) else { return (ids, nil) }
            tokens.append(start..<alignment.position)
        }
        guard alignment.position == text.count else { return (ids, nil) }
        return (ids, zip(borders, borders.dropFirst()).map { Tokenizer.tokens(holding: $0..<$1, tokens) })
    }

    private func advance(_ alignment: inout TokenAlignment, over id: Int32) -> Bool {
        if let added = file.added[id] {
            let looked = added.isNormalized ? added.text.withUnsafeBufferPointer { file.normalizer.apply($0) } : nil
            return alignment.advance(over: added, lookedForAs: looked ?? added.text)
        }
        guard let bytes = file.model.vocabulary.bytes(id) else { return false }
        if file.model.vocabulary.isByteLevel { return alignment.advance(overBytes: bytes) }
        if file.model.byteTokens != nil, let byte = TokenDecoder.fallbackByte(bytes) {
            return alignment.advance(overBytes: [byte])
        }
        return alignment.advance(overMarked: Array(bytes))
    }

    /// The unknown token stands for a character without a token, or for several in a row.
    private func advance(_ alignment: inout TokenAlignment, overUnknown id: Int32, from start: Int) -> Bool {
        guard id == file.model.unknown else { return false }
        return alignment.advance(from: start, overOne: !file.model.fusesUnknown) { file.model.vocabulary.id($0) >= 0 }
    }

    /// The tokens, in order of the text, that hold a byte of `range`; one without a byte holds the next. O(log n).
    private static func tokens(holding range: Range<Int>, _ tokens: [Range<Int>]) -> Range<Int> {
        func firstIndex(where holds: (Range<Int>) -> Bool) -> Int {
            var (low, high) = (0, tokens.count)
            while low < high {
                let middle = (low + high) / 2
                if holds(tokens[middle]) { high = middle } else { low = middle + 1 }
            }
            return low
        }
        let first = firstIndex { max($0.upperBound, $0.lowerBound + 1) > range.lowerBound }
        let end = firstIndex { $0.lowerBound >= range.upperBound }
        return range.isEmpty ? first..<first : first..<max(first, end)
    }
}

/// A walk over a text, token by token.
///
/// Tokens are the text's own bytes but for spaces, which a tokenizer puts before a word or writes as "▁", and for white
/// space that an added token strips.
private struct TokenAlignment {
    let text: [UInt8]
    private(set) var position = 0

    init(text: [UInt8]) { self.text = text }

    private static let mark = Array("▁".utf8)

    private func has(_ bytes: some Collection<UInt8>) -> Bool { text[position...].starts(with: bytes) }

    /// A token of a byte-level model.
    mutating func advance(overBytes bytes: some Collection<UInt8>) -> Bool {
        if has(bytes) {
            position += bytes.count
            return true
        }
        guard bytes.first == 0x20, has(bytes.dropFirst()) else { return false }
        position += bytes.count - 1
        return true
    }

    /// A token in which spaces are "▁".
    mutating func advance(overMarked bytes: [UInt8]) -> Bool {
        var index = 0
        while index < bytes.count {
            if bytes[index...].starts(with: TokenAlignment.mark) {
                if position < text.count, text[position] == 0x20 {
                    position += 1
                } else if has(TokenAlignment.mark) {
                    position += TokenAlignment.mark.count
                }
                index += TokenAlignment.mark.count
            } else {
                guard position < text.count, text[position] == bytes[index] else { return false }
                position += 1
                index += 1
            }
        }
        return true
    }

    /// Characters that are not known; spaces are.
    mutating func advance(
        from start: Int, overOne: Bool, isKnown: (UnsafeBufferPointer<UInt8>) -> Bool
    ) -> Bool {
        position = text.withUnsafeBufferPointer { text in
            var index = start
            while index < text.count, text[index] != 0x20, index == start || !overOne {
                let end = index + UTF8Text.scalar(text, at: index).length
                if isKnown(UnsafeBufferPointer(rebasing: text[index..<end])) { break }
                index = end
            }
            return index
        }
        return position > start
    }

    /// - Parameter text: the token's own, or what normalisation makes of it.
    mutating func advance(over token: AddedTokens.Token, lookedForAs text: [UInt8]) -> Bool {
        if token.stripsLeft, !has(text) { skipSpace() }
        guard advance(overMarked: text) else { return false }
        if token.stripsRight { skipSpace() }
        return true
    }

    private mutating func skipSpace() {
        position = text.withUnsafeBufferPointer { AddedTokens.spaceEnd($0, position) }
    }
}
