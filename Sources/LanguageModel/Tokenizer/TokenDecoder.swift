/// From tokens back to text, in the steps of the file.
struct TokenDecoder: Sendable {
    enum Step: Sendable {
        /// Tokens in the alphabet of bytes are those bytes, others their text.
        case byteLevel
        case replace([UInt8], [UInt8])
        /// `<0x0A>` is the byte 10.
        case byteFallback
        case fuse
        /// At most so many of these bytes from the start and from the end.
        case strip([UInt8], start: Int, stop: Int)
        case metaspace(replacement: [UInt8], dropsFirst: Bool)
    }
    /// nil: tokens with spaces between them.
    var steps: [Step]?

    /// The text of tokens, each as the file writes it. O(n) in their bytes.
    func text(_ tokens: [[UInt8]]) -> String {
        guard let steps else { return TokenDecoder.string(Array(tokens.joined(separator: [0x20]))) }
        let pieces = steps.reduce(tokens) { TokenDecoder.apply($1, $0) }
        return TokenDecoder.string(Array(pieces.joined()))
    }

    private static func string(_ bytes: [UInt8]) -> String {
        String(decoding: bytes.withUnsafeBufferPointer { UTF8Text.repaired($0) }, as: UTF8.self)
    }

    private static func apply(_ step: Step, _ tokens: [[UInt8]]) -> [[UInt8]] {
        switch step {
        case .byteLevel:
            var bytes: [UInt8] = []
            for token in tokens {
                let start = bytes.count
                bytes += token
                _ = ByteAlphabet.decode(&bytes, from: start)
            }
            return [bytes.withUnsafeBufferPointer { UTF8Text.repaired($0) }]
        case .replace(let wanted, let replacement):
            return tokens.map { $0.withUnsafeBufferPointer { ByteReplacement.apply($0, wanted, replacement) } }
        case .byteFallback: return joiningBytes(tokens)
        case .fuse: return [tokens.flatMap { $0 }]
        case .strip(let content, let start, let stop): return tokens.map { strip($0, content, start, stop) }
        case .metaspace(let replacement, let dropsFirst):
            return tokens.enumerated().map { index, token in
                token.withUnsafeBufferPointer {
                    ByteReplacement.apply($0, replacement, index == 0 && dropsFirst ? [] : [0x20])
                }
            }
        }
    }

    /// Runs of byte tokens as the text they are; a run that is no UTF-8 as one U+FFFD for each byte.
    private static func joiningBytes(_ tokens: [[UInt8]]) -> [[UInt8]] {
        var (result, run): ([[UInt8]], [UInt8]) = ([], [])
        func flush() {
            guard !run.isEmpty else { return }
            let isValid = run.withUnsafeBufferPointer { UTF8Text.validPrefix($0) } == run.count
            if isValid { result.append(run) } else { result += run.map { _ in [0xef, 0xbf, 0xbd] } }
            run = []
        }
        for token in tokens {
            if let byte = fallbackByte(token) {
                run.append(byte)
            } else {
                flush()
                result.append(token)
            }
        }
        flush()
        return result
    }

    /// The byte of a token such as `<0x0A>`; nil for every other token.
    static func fallbackByte(_ token: some Collection<UInt8>) -> UInt8? {
        let text = Array(token)
        guard text.count == 6, text.starts(with: Array("<0x".utf8)), text[5] == UInt8(ascii: ">") else { return nil }
        return UInt8(String(decoding: text[3...4], as: UTF8.self), radix: 16)
    }

    private static func strip(_ token: [UInt8], _ content: [UInt8], _ start: Int, _ stop: Int) -> [UInt8] {
        var rest = token[...]
        for _ in 0..<start {
            guard rest.starts(with: content) else { break }
            rest = rest.dropFirst(content.count)
        }
        for _ in 0..<stop {
            guard rest.suffix(content.count).elementsEqual(content) else { break }
            rest = rest.dropLast(content.count)
        }
        return Array(rest)
    }
}
