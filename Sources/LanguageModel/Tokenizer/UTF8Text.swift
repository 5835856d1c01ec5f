/// Reading and repairing UTF-8.
enum UTF8Text {
    /// The scalar that starts at `index` of well-formed text, and its bytes.
    @inline(__always)
    static func scalar(_ text: UnsafeBufferPointer<UInt8>, at index: Int) -> (scalar: UInt32, length: Int) {
        let lead = UInt32(text[index])
        if lead < 0x80 { return (lead, 1) }
        let second = UInt32(text[index &+ 1] & 0x3f)
        if lead < 0xe0 { return ((lead & 0x1f) << 6 | second, 2) }
        let third = UInt32(text[index &+ 2] & 0x3f)
        if lead < 0xf0 { return ((lead & 0x0f) << 12 | second << 6 | third, 3) }
        return ((lead & 0x07) << 18 | second << 12 | third << 6 | UInt32(text[index &+ 3] & 0x3f), 4)
    }

    /// The scalar that ends before `index`, which is not 0, of well-formed text.
    static func scalar(_ text: UnsafeBufferPointer<UInt8>, before index: Int) -> (scalar: UInt32, length: Int) {
        var start = index - 1
        while text[start] & 0xc0 == 0x80 { start -= 1 }
        return scalar(text, at: start)
    }

    /// How many bytes at `index` are a well-formed scalar; 0 where they are none, with the bytes that one U+FFFD
    /// replaces: the longest start of a scalar that the standard allows (Unicode, table 3-7), or a single byte.
    @inline(__always)
    private static func check(_ text: UnsafeBufferPointer<UInt8>, _ index: Int) -> (valid: Int, replaced: Int) {
        let (length, second): (Int, ClosedRange<UInt8>)
        switch text[index] {
        case 0x00...0x7f: return (1, 0)
        case 0xc2...0xdf: (length, second) = (2, 0x80...0xbf)
        case 0xe0: (length, second) = (3, 0xa0...0xbf)
        case 0xed: (length, second) = (3, 0x80...0x9f)
        case 0xe1...0xef: (length, second) = (3, 0x80...0xbf)
        case 0xf0: (length, second) = (4, 0x90...0xbf)
        case 0xf1...0xf3: (length, second) = (4, 0x80...0xbf)
        case 0xf4: (length, second) = (4, 0x80...0x8f)
        default: return (0, 1)
        }
        guard index + 1 < text.count, second.contains(text[index + 1]) else { return (0, 1) }
        var have = 2
        while have < length, index + have < text.count, text[index + have] & 0xc0 == 0x80 { have += 1 }
        return have == length ? (length, 0) : (0, have)
    }

    /// The bytes from the start that are well-formed. O(n).
    static func validPrefix(_ text: UnsafeBufferPointer<UInt8>) -> Int {
        let raw = UnsafeRawBufferPointer(text)
        var index = 0
        while index < text.count {
            if index &+ 8 <= text.count,
                raw.loadUnaligned(fromByteOffset: index, as: UInt64.self) & 0x8080_8080_8080_8080 == 0
            {
                index &+= 8
                continue
            }
            let valid = check(text, index).valid
            if valid == 0 { return index }
            index &+= valid
        }
        return index
    }

    /// The text with U+FFFD in the place of what is not UTF-8, as Python's `decode("utf-8", errors="replace")` and
    /// Rust's `from_utf8_lossy` write it. O(n).
    static func repaired(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
        var index = validPrefix(text)
        var result = [UInt8](text[..<index])
        while index < text.count {
            let (valid, replaced) = check(text, index)
            if valid > 0 {
                result.append(contentsOf: text[index..<index + valid])
            } else {
                result.append(contentsOf: [0xef, 0xbf, 0xbd])
            }
            index += valid + replaced
        }
        return result
    }
}
