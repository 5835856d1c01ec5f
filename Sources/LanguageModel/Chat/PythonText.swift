/// Text as Python's `str` methods see it, which templates call.
extension String {
    /// As `strip()` and Jinja's `trim`: white space as `str.isspace` has it.
    var stripped: String {
        func isSpace(_ scalar: UnicodeScalar) -> Bool { scalar.properties.isWhitespace || 0x1c...0x1f ~= scalar.value }
        let scalars = unicodeScalars
        guard let first = scalars.firstIndex(where: { !isSpace($0) }),
            let last = scalars.lastIndex(where: { !isSpace($0) })
        else { return "" }
        return String(scalars[first...last])
    }

    /// As `lstrip("\n")`.
    var withoutLeadingNewlines: String { String(unicodeScalars.drop { $0 == "\n" }) }

    /// As `rstrip("\n")`.
    var withoutTrailingNewlines: String {
        guard let last = unicodeScalars.lastIndex(where: { $0 != "\n" }) else { return "" }
        return String(unicodeScalars[...last])
    }

    /// As `split(separator)`, by bytes: canonical equivalence would find what Python does not. O(n).
    func parts(separatedBy separator: String) -> [String] {
        let (bytes, wanted) = (Array(utf8), Array(separator.utf8))
        return bytes.withUnsafeBufferPointer { bytes in
            var (result, start): ([String], Int) = ([], 0)
            while let place = ByteReplacement.find(wanted, bytes, from: start) {
                result.append(String(decoding: bytes[start..<place], as: UTF8.self))
                start = place + wanted.count
            }
            return result + [String(decoding: bytes[start...], as: UTF8.self)]
        }
    }

    func startsExactly(with other: String) -> Bool { utf8.starts(with: other.utf8) }

    func endsExactly(with other: String) -> Bool { utf8.reversed().starts(with: other.utf8.reversed()) }
}
