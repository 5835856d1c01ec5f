/// The characters in which byte-level models write bytes: printable ones of Latin-1 stand for themselves, the other
/// 68 bytes, in order, for U+0100 on. The same table as GPT-2's `bytes_to_unicode`.
enum ByteAlphabet {
    private static func isPrintable(_ byte: UInt32) -> Bool {
        0x21...0x7e ~= byte || 0xa1...0xac ~= byte || 0xae...0xff ~= byte
    }

    /// Bytes of the characters U+0000 to U+0143; -1 where a character stands for none.
    private static let bytes: [Int16] = {
        var bytes = [Int16](repeating: -1, count: 0x144)
        var next = 0x100
        for byte in UInt32(0)...255 {
            if isPrintable(byte) {
                bytes[Int(byte)] = Int16(byte)
            } else {
                bytes[next] = Int16(byte)
                next += 1
            }
        }
        return bytes
    }()

    /// Each byte's character.
    private static let characters: [[UInt8]] = {
        var characters = [[UInt8]](repeating: [], count: 256)
        for (scalar, byte) in bytes.enumerated() where byte >= 0 {
            characters[Int(byte)] = Array(UTF8.encode(UnicodeScalar(UInt16(scalar))!)!)
        }
        return characters
    }()

    /// The characters that stand for these bytes. O(n).
    static func encode(_ bytes: [UInt8]) -> [UInt8] { bytes.flatMap { characters[Int($0)] } }

    /// Puts the bytes that the text from `start` on stands for in its place.
    ///
    /// - Parameter text: well-formed UTF-8.
    /// - Returns: false, with the text as it was, where a character stands for no byte.
    /// - Complexity: O(n).
    static func decode(_ text: inout [UInt8], from start: Int) -> Bool {
        let count = bytes.withUnsafeBufferPointer { bytes in
            text.withUnsafeMutableBufferPointer { text -> Int? in
                // Whether all of it is there comes first: the text stays whole when it is not.
                var index = start
                while index < text.count {
                    let lead = Int(text[index])
                    if lead < 0x80 {
                        guard bytes[lead] >= 0 else { return nil }
                        index += 1
                    } else {
                        // U+0080 to U+0143 have two bytes, with a lead up to C5.
                        guard lead <= 0xc5, bytes[(lead & 0x1f) << 6 | Int(text[index + 1] & 0x3f), default: -1] >= 0
                        else { return nil }
                        index += 2
                    }
                }
                var (from, to) = (start, start)
                while from < text.count {
                    let lead = Int(text[from])
                    let isShort = lead < 0x80
                    let scalar = isShort ? lead : (lead & 0x1f) << 6 | Int(text[from + 1] & 0x3f)
                    text[to] = UInt8(truncatingIfNeeded: bytes[scalar])
                    from += isShort ? 1 : 2
                    to += 1
                }
                return to
            }
        }
        guard let count else { return false }
        text.removeLast(text.count - count)
        return true
    }
}

extension UnsafeBufferPointer {
    /// The element, or `value` beyond the end.
    fileprivate subscript(index: Int, default value: Element) -> Element {
        index < count ? self[index] : value
    }
}
