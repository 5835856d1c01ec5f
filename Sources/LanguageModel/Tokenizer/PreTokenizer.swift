/// How a piece of normalised text becomes words.
struct PreTokenizer: Sendable {
    /// Cuts in the order of the file; each cuts what the one before it left.
    enum Cut: Sendable {
        case pattern(SplitPattern)
        /// Numbers on their own; each digit on its own with `individual`.
        case digits(individual: Bool)
        /// After every occurrence of these bytes.
        case after([UInt8])
    }
    var cuts: [Cut] = []
    /// A space before each piece that has none and reaches the byte-level step, if the file asks for that.
    var spaceFirst = false
    /// The cuts that come before the byte-level step.
    var spaceStep = 0
    var metaspace: Metaspace?

    /// Spaces as a character of their own, "▁".
    struct Metaspace: Sendable {
        /// Where the character is put before a piece that does not start with it.
        enum Prepending: Sendable { case always, first, never }
        var replacement: [UInt8]
        var prepending: Prepending
        /// Whether words are cut before each of them.
        var cuts: Bool
    }

    /// Calls `body` with each word of `text` in turn.
    ///
    /// - Parameter isStart: whether the text starts where the whole input does.
    /// - Complexity: O(n).
    func forEachWord(
        _ text: UnsafeBufferPointer<UInt8>, isStart: Bool, _ scratch: inout EncodingScratch,
        _ body: (UnsafeBufferPointer<UInt8>, inout EncodingScratch) -> Void
    ) {
        guard text.count > 0 else { return }
        if let metaspace {
            var replaced = ByteReplacement.apply(text, [0x20], metaspace.replacement)
            let prepends = metaspace.prepending == .always || metaspace.prepending == .first && isStart
            if prepends, !replaced.starts(with: metaspace.replacement) {
                replaced.insert(contentsOf: metaspace.replacement, at: 0)
            }
            replaced.withUnsafeBufferPointer { metaspace.forEachWord($0, &scratch, body) }
        } else {
            cut(text, 0, &scratch, body)
        }
    }

    private func cut(
        _ text: UnsafeBufferPointer<UInt8>, _ step: Int, _ scratch: inout EncodingScratch,
        _ body: (UnsafeBufferPointer<UInt8>, inout EncodingScratch) -> Void
    ) {
        if spaceFirst, step == spaceStep, text[0] != 0x20 {
            let spaced = [0x20] + Array(text)
            spaced.withUnsafeBufferPointer { cutSpaced($0, step, &scratch, body) }
        } else {
            cutSpaced(text, step, &scratch, body)
        }
    }

    private func cutSpaced(
        _ text: UnsafeBufferPointer<UInt8>, _ step: Int, _ scratch: inout EncodingScratch,
        _ body: (UnsafeBufferPointer<UInt8>, inout EncodingScratch) -> Void
    ) {
        if step < cuts.count { cut(text, cuts[step], step, &scratch, body) } else { body(text, &scratch) }
    }

    private func cut(
        _ text: UnsafeBufferPointer<UInt8>, _ cut: Cut, _ step: Int, _ scratch: inout EncodingScratch,
        _ body: (UnsafeBufferPointer<UInt8>, inout EncodingScratch) -> Void
    ) {
        var start = 0
        let isLast = step + 1 == cuts.count && !(spaceFirst && spaceStep == cuts.count)
        while start < text.count {
            let end: Int
            switch cut {
            case .pattern(let pattern): end = pattern.end(of: text, from: start, &scratch.classes)
            case .digits(let individual):
                let (found, length) = scratch.classes.at(text, start)
                if found.contains(.numeric), individual {
                    end = start + length
                } else {
                    end = scratch.classes.run(text, start + length, .numeric, inverted: !found.contains(.numeric))
                }
            case .after(let delimiter):
                end = ByteReplacement.find(delimiter, text, from: start).map { $0 + delimiter.count } ?? text.count
            }
            let piece = UnsafeBufferPointer(rebasing: text[start..<end])
            if isLast { body(piece, &scratch) } else { self.cut(piece, step + 1, &scratch, body) }
            start = end
        }
    }
}

extension PreTokenizer.Metaspace {
    fileprivate func forEachWord(
        _ text: UnsafeBufferPointer<UInt8>, _ scratch: inout EncodingScratch,
        _ body: (UnsafeBufferPointer<UInt8>, inout EncodingScratch) -> Void
    ) {
        guard cuts else { return body(text, &scratch) }
        var start = 0
        while start < text.count {
            let end = ByteReplacement.find(replacement, text, from: start + 1) ?? text.count
            body(UnsafeBufferPointer(rebasing: text[start..<end]), &scratch)
            start = end
        }
    }
}

/// Finding and replacing byte strings.
enum ByteReplacement {
    /// Where `wanted`, which is not empty, starts next. O(n).
    static func find(_ wanted: [UInt8], _ text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int? {
        var index = start
        while index + wanted.count <= text.count {
            if text[index] == wanted[0], wanted.indices.allSatisfy({ text[index + $0] == wanted[$0] }) { return index }
            index += 1
        }
        return nil
    }

    /// The text with each `wanted`, from the left, replaced. O(n).
    static func apply(_ text: UnsafeBufferPointer<UInt8>, _ wanted: [UInt8], _ replacement: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(text.count + text.count / 2)
        var start = 0
        while let place = find(wanted, text, from: start) {
            result.append(contentsOf: text[start..<place])
            result.append(contentsOf: replacement)
            start = place + wanted.count
        }
        result.append(contentsOf: text[start...])
        return result
    }
}
