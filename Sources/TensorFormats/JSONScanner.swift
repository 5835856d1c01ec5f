/// Reads JSON text token by token, without building anything that the caller does not ask for.
///
/// As strict as serde_json, whose verdict decides what a safetensors header is: UTF-8 checked, no control
/// characters in strings, no lone surrogates, no numbers that a Double cannot hold, and nesting below 128.
/// Every method reads each byte a constant number of times.
package struct JSONScanner {
    /// Arrays and objects that may be open at once.
    static let maximumDepth = 127

    /// The text. The caller keeps it alive.
    private let text: UnsafeBufferPointer<UInt8>
    private let path: String
    /// Where the text starts in the file, for errors.
    private let origin: UInt64
    /// Bytes read so far.
    package private(set) var position = 0
    private var depth = 0

    package init(_ text: UnsafeBufferPointer<UInt8>, path: String, origin: UInt64 = 0) {
        self.text = text
        self.path = path
        self.origin = origin
    }

    package func failure(_ reason: String, tensor: String? = nil, at place: Int? = nil) -> FormatError {
        FormatError(
            .malformed, path: path, tensor: tensor, byte: origin + UInt64(place ?? position), "invalid JSON: \(reason)")
    }

    // MARK: Structure

    /// The first byte of the next token, not consumed; nil at the end.
    package mutating func peek() -> UInt8? {
        while position < text.count {
            switch text[position] {
            case 0x20, 0x09, 0x0a, 0x0d: position += 1
            case let byte: return byte
            }
        }
        return nil
    }

    /// Consumes the bracket that opens an array or an object.
    package mutating func open(_ bracket: UInt8) throws(FormatError) {
        guard peek() == bracket else { throw failure("expected \"\(Character(UnicodeScalar(bracket)))\"") }
        guard depth < JSONScanner.maximumDepth else {
            throw failure("nested deeper than \(JSONScanner.maximumDepth) levels")
        }
        depth += 1
        position += 1
    }

    /// Moves to the next element of the open array or object, past the comma before it; false when the closing
    /// bracket came instead and was consumed.
    ///
    /// - Parameter first: true before the first element; the method sets it to false.
    package mutating func next(before close: UInt8, first: inout Bool) throws(FormatError) -> Bool {
        defer { first = false }
        guard let byte = peek() else { throw failure("the text ends inside an array or object") }
        if byte == close {
            position += 1
            depth -= 1
            return false
        }
        if first { return true }
        guard byte == UInt8(ascii: ",") else { throw failure("expected a comma or a closing bracket") }
        position += 1
        return true
    }

    /// A member's name and the colon after it.
    package mutating func key() throws(FormatError) -> String {
        let name = try string()
        try colon()
        return name
    }

    /// The colon between a member's name and its value.
    package mutating func colon() throws(FormatError) {
        guard peek() == UInt8(ascii: ":") else { throw failure("expected a colon") }
        position += 1
    }

    /// Consumes a whole word such as `true`.
    package mutating func literal(_ word: StaticString) throws(FormatError) {
        _ = peek()
        let length = word.utf8CodeUnitCount
        guard text.count - position >= length,
            (0..<length).allSatisfy({ text[position + $0] == word.utf8Start[$0] })
        else { throw failure("expected a value") }
        position += length
    }

    /// Whether Python's name of a negative infinity follows.
    package var isInfinity: Bool { position + 1 < text.count && text[position + 1] == UInt8(ascii: "I") }

    /// Refuses anything but white space after the value.
    package mutating func finish() throws(FormatError) {
        guard peek() == nil else { throw failure("trailing characters") }
    }

    /// Reads past one value of any kind, checking it, in no memory.
    package mutating func skipValue() throws(FormatError) {
        switch peek() {
        case UInt8(ascii: "{"):
            try open(UInt8(ascii: "{"))
            var first = true
            while try next(before: UInt8(ascii: "}"), first: &first) {
                try skipString()
                try colon()
                try skipValue()
            }
        case UInt8(ascii: "["):
            try open(UInt8(ascii: "["))
            var first = true
            while try next(before: UInt8(ascii: "]"), first: &first) { try skipValue() }
        case UInt8(ascii: "\""): try skipString()
        case UInt8(ascii: "t"): try literal("true")
        case UInt8(ascii: "f"): try literal("false")
        case UInt8(ascii: "n"): try literal("null")
        default: _ = try number()
        }
    }

    // MARK: Numbers

    /// A number, exact where it is an integer of 64 bits.
    package enum Number: Equatable {
        case unsigned(UInt64)
        /// Below zero.
        case signed(Int64)
        case double(Double)
    }

    package mutating func number() throws(FormatError) -> Number {
        let lead = peek()
        let start = position
        let negative = lead == UInt8(ascii: "-")
        if negative { position += 1 }
        let digits = position
        var value: UInt64 = 0
        var exact = true
        while let digit = currentDigit() {
            let (tens, overflowed) = value.multipliedReportingOverflow(by: 10)
            let (sum, carried) = tens.addingReportingOverflow(UInt64(digit))
            if overflowed || carried { exact = false }
            value = sum
            position += 1
        }
        guard position > digits else {
            throw failure(negative ? "a minus sign without a number" : "expected a value", at: start)
        }
        guard position == digits + 1 || text[digits] != UInt8(ascii: "0") else {
            throw failure("a number with a leading zero", at: start)
        }
        if position < text.count, text[position] == UInt8(ascii: ".") {
            exact = false
            position += 1
            try digitRun()
        }
        if position < text.count, text[position] | 0x20 == UInt8(ascii: "e") {
            exact = false
            position += 1
            if position < text.count, text[position] == UInt8(ascii: "+") || text[position] == UInt8(ascii: "-") {
                position += 1
            }
            try digitRun()
        }
        if exact, !negative { return .unsigned(value) }
        if exact, value > 0, value <= UInt64(Int64.max) + 1 { return .signed(Int64(truncatingIfNeeded: 0 &- value)) }
        let token = String(decoding: text[start..<position], as: UTF8.self)
        guard let double = Double(token), double.isFinite else { throw failure("number out of range", at: start) }
        return .double(double)
    }

    private mutating func digitRun() throws(FormatError) {
        let start = position
        while currentDigit() != nil { position += 1 }
        guard position > start else { throw failure("expected a digit") }
    }

    private func currentDigit() -> UInt8? {
        guard position < text.count else { return nil }
        let digit = text[position] &- UInt8(ascii: "0")
        return digit < 10 ? digit : nil
    }

    // MARK: Strings

    package mutating func string() throws(FormatError) -> String {
        try openString()
        let start = position
        try scanPlain()
        if text[position] == UInt8(ascii: "\"") {
            position += 1
            return String(decoding: text[start..<position - 1], as: UTF8.self)
        }
        var bytes = Array(text[start..<position])
        while text[position] != UInt8(ascii: "\"") {
            bytes.append(contentsOf: UTF8.encode(try escape())!)
            let plain = position
            try scanPlain()
            bytes.append(contentsOf: text[plain..<position])
        }
        position += 1
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Appends a string's bytes to `arena`: one copy, and no object for it.
    package mutating func appendString(to arena: inout [UInt8]) throws(FormatError) {
        try openString()
        var plain = position
        try scanPlain()
        arena.append(contentsOf: UnsafeBufferPointer(rebasing: text[plain..<position]))
        while text[position] != UInt8(ascii: "\"") {
            arena.append(contentsOf: UTF8.encode(try escape())!)
            plain = position
            try scanPlain()
            arena.append(contentsOf: UnsafeBufferPointer(rebasing: text[plain..<position]))
        }
        position += 1
    }

    private mutating func skipString() throws(FormatError) {
        try openString()
        try scanPlain()
        while text[position] != UInt8(ascii: "\"") {
            _ = try escape()
            try scanPlain()
        }
        position += 1
    }

    private mutating func openString() throws(FormatError) {
        guard peek() == UInt8(ascii: "\"") else { throw failure("expected a string") }
        position += 1
    }

    /// Moves to the next quote or backslash, which is always there when this returns.
    private mutating func scanPlain() throws(FormatError) {
        while position < text.count {
            let byte = text[position]
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return }
            if byte < 0x20 { throw failure("a control character in a string") }
            if byte < 0x80 {
                position += 1
            } else {
                try scanMultibyte(lead: byte)
            }
        }
        throw failure("the text ends inside a string")
    }

    /// One scalar of two to four bytes, by the table of well-formed UTF-8 of the Unicode standard (table 3-7).
    private mutating func scanMultibyte(lead: UInt8) throws(FormatError) {
        let (length, second): (Int, ClosedRange<UInt8>)
        switch lead {
        case 0xc2...0xdf: (length, second) = (2, 0x80...0xbf)
        case 0xe0: (length, second) = (3, 0xa0...0xbf)
        case 0xed: (length, second) = (3, 0x80...0x9f)
        case 0xe1...0xef: (length, second) = (3, 0x80...0xbf)
        case 0xf0: (length, second) = (4, 0x90...0xbf)
        case 0xf1...0xf3: (length, second) = (4, 0x80...0xbf)
        case 0xf4: (length, second) = (4, 0x80...0x8f)
        default: throw failure("invalid UTF-8")
        }
        guard text.count - position >= length, second.contains(text[position + 1]),
            (2..<length).allSatisfy({ text[position + $0] & 0xc0 == 0x80 })
        else { throw failure("invalid UTF-8") }
        position += length
    }

    /// An escape sequence, from its backslash on; two of them for a surrogate pair.
    private mutating func escape() throws(FormatError) -> UnicodeScalar {
        let start = position
        guard position + 1 < text.count else { throw failure("the text ends inside a string") }
        position += 2
        switch text[position - 1] {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{08}"
        case UInt8(ascii: "f"): return "\u{0c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default: throw failure("an unknown escape", at: start)
        }
        let unit = try hexUnit()
        if let scalar = UnicodeScalar(unit) { return scalar }
        guard unit < 0xdc00, text.count - position >= 2, text[position] == UInt8(ascii: "\\"),
            text[position + 1] == UInt8(ascii: "u")
        else { throw failure("a lone surrogate", at: start) }
        position += 2
        let low = try hexUnit()
        guard (0xdc00...0xdfff).contains(low),
            let scalar = UnicodeScalar(0x10000 + (UInt32(unit - 0xd800) << 10) + UInt32(low - 0xdc00))
        else { throw failure("a lone surrogate", at: start) }
        return scalar
    }

    private mutating func hexUnit() throws(FormatError) -> UInt16 {
        guard text.count - position >= 4 else { throw failure("the text ends inside an escape") }
        var unit: UInt16 = 0
        for _ in 0..<4 {
            let byte = text[position]
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw failure("expected four hexadecimal digits")
            }
            unit = unit << 4 | UInt16(digit)
            position += 1
        }
        return unit
    }
}
