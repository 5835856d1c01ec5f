extension SplitPattern {
    /// Where the match that starts at `start` ends. The patterns leave no character out, so the next one starts there.
    ///
    /// Each step below is one alternative, in the order of the pattern's text: the first that matches is the match.
    ///
    /// - Parameters:
    ///   - text: well-formed UTF-8; its end is the end of the subject, for `(?!\S)`.
    ///   - start: the start of a character.
    /// - Complexity: O(n) in the match and, for white space, one character more.
    func end(of text: UnsafeBufferPointer<UInt8>, from start: Int, _ classes: inout CharacterClasses) -> Int {
        if contractions == .first || contractions == .firstAnyCase, text[start] == UInt8(ascii: "'") {
            let length = SplitPattern.contraction(text, start, anyCase: contractions == .firstAnyCase)
            if length > 0 { return start + length }
        }
        let (first, length) = classes.at(text, start)
        let second = start + length
        if words == .cased {
            if let end = casedWord(text, start, first, second, &classes) {
                return contractions == .suffixAnyCase ? end + SplitPattern.contraction(text, end, anyCase: true) : end
            }
        } else {
            let letters: CharacterClasses.Class = words == .prefixedWithMarks ? [.letter, .mark] : .letter
            if !first.isDisjoint(with: letters) {
                return classes.run(text, second, letters)
            }
            let isPrefix =
                words == .spaced
                ? text[start] == UInt8(ascii: " ") : first.isDisjoint(with: [.letter, .number, .newline])
            if isPrefix, second < text.count, !classes.at(text, second).classes.isDisjoint(with: letters) {
                return classes.run(text, second, letters)
            }
        }
        let isSpace = text[start] == UInt8(ascii: " ")
        let next: CharacterClasses.Class = isSpace && second < text.count ? classes.at(text, second).classes : .space
        if first.contains(.number) { return classes.run(text, second, .number, atMost: digits - 1) }
        if spacedNumbers, next.contains(.number) { return classes.run(text, second, .number) }

        let others: CharacterClasses.Class = marksInWords ? [.space, .letter, .mark, .number] : [.space, .letter, .number]
        if first.isDisjoint(with: others) || next.isDisjoint(with: others) {
            var end = classes.run(text, second, others, inverted: true)
            while newlines, end < text.count, SplitPattern.isTail(text[end], slashes) { end += 1 }
            return end
        }
        return spaceEnd(text, start, &classes)
    }

    @inline(__always)
    private static func isTail(_ byte: UInt8, _ slashes: Bool) -> Bool {
        byte == 10 || byte == 13 || slashes && byte == UInt8(ascii: "/")
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`, or the last two of them.
    private func spaceEnd(
        _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ classes: inout CharacterClasses
    ) -> Int {
        var (end, last, afterNewline) = (start, start, start)
        while end < text.count {
            let (found, length) = classes.at(text, end)
            guard found.contains(.space) else { break }
            last = end
            end += length
            if found.contains(.newline) { afterNewline = end }
        }
        if newlines, afterNewline > start { return afterNewline }
        // Before something else the last of several characters is left to it.
        return end == text.count || last == start ? end : last
    }

    /// The letters of `.cased`, both alternatives; nil where neither matches.
    private func casedWord(
        _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ first: CharacterClasses.Class, _ second: Int,
        _ classes: inout CharacterClasses
    ) -> Int? {
        let isPrefix = first.isDisjoint(with: [.letter, .number, .newline])
        if isPrefix, let end = lowerEnd(text, second, &classes) { return end }
        if let end = lowerEnd(text, start, &classes) { return end }
        // Nothing of lower case: letters of upper case only.
        if isPrefix {
            let end = classes.run(text, second, .upper)
            if end > second { return end }
        }
        return first.contains(.upper) ? classes.run(text, second, .upper) : nil
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` from `start` on.
    private func lowerEnd(
        _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ classes: inout CharacterClasses
    ) -> Int? {
        // The end of the last character of the first run that could be in the second.
        var (index, shared) = (start, -1)
        while index < text.count {
            let (found, length) = classes.at(text, index)
            guard found.contains(.upper) else { break }
            index += length
            if found.contains(.lower) { shared = index }
        }
        let end = classes.run(text, index, .lower)
        if end > index { return end }
        return shared < 0 ? nil : shared
    }

    /// The bytes of the contraction at `start`; 0 where there is none.
    private static func contraction(_ text: UnsafeBufferPointer<UInt8>, _ start: Int, anyCase: Bool) -> Int {
        guard start + 1 < text.count, text[start] == UInt8(ascii: "'") else { return 0 }
        func letter(_ index: Int) -> UInt8 {
            guard index < text.count else { return 0 }
            return anyCase && 0x41...0x5a ~= text[index] ? text[index] | 0x20 : text[index]
        }
        switch (letter(start + 1), letter(start + 2)) {
        case (UInt8(ascii: "s"), _), (UInt8(ascii: "t"), _), (UInt8(ascii: "m"), _), (UInt8(ascii: "d"), _): return 2
        case (UInt8(ascii: "r"), UInt8(ascii: "e")), (UInt8(ascii: "v"), UInt8(ascii: "e")),
            (UInt8(ascii: "l"), UInt8(ascii: "l")):
            return 3
        // The long s, U+017F, is an s in any case.
        case (0xc5, 0xbf) where anyCase: return 3
        default: return 0
        }
    }
}

extension CharacterClasses {
    /// The classes and the bytes of the character at `index`. O(1).
    @inline(__always)
    mutating func at(_ text: UnsafeBufferPointer<UInt8>, _ index: Int) -> (classes: Class, length: Int) {
        let (scalar, length) = UTF8Text.scalar(text, at: index)
        return (of(scalar), length)
    }

    /// The end of the run, from `start` on, of characters in one of the classes or, `inverted`, in none.
    @inline(__always)
    mutating func run(
        _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ wanted: Class, inverted: Bool = false,
        atMost limit: Int = .max
    ) -> Int {
        var (index, count) = (start, 0)
        while index < text.count, count < limit {
            let (found, length) = at(text, index)
            guard found.isDisjoint(with: wanted) == inverted else { break }
            index &+= length
            count &+= 1
        }
        return index
    }
}
