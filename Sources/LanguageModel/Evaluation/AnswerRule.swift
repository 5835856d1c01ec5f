/// What of a text counts as its answer.
public struct AnswerRule {
    /// The answer is what follows the last of these.
    public var marker: String
    /// Where there is one, the answer is its last match: the first group of it, if it has groups.
    private let pattern: Regex<AnyRegexOutput>?

    /// - Throws: `.malformed` for a pattern that is none.
    public init(marker: String = "####", pattern: String? = nil) throws(LanguageModelError) {
        self.marker = marker
        do {
            self.pattern = try pattern.map { try Regex($0) }
        } catch {
            throw LanguageModelError(.malformed, "pattern \"\(pattern ?? "")\": \(error)")
        }
    }

    /// Whether whole texts are compared: the reference has no marker, and there is no pattern.
    public func isWhole(_ reference: String) -> Bool { pattern == nil && !reference.contains(marker) }

    /// The answer in a text, trimmed, without commas between thousands; nil where it has none.
    ///
    /// - Parameter whole: whether it is the whole text.
    public func answer(in text: String, whole: Bool) -> String? {
        let found: Substring?
        if whole {
            found = text[...]
        } else if let pattern {
            found = text.matches(of: pattern).last.flatMap { match in
                match.output.count > 1 ? match.output[1].substring : match.output[0].substring
            }
        } else {
            found = text.ranges(of: marker).last.map { text[$0.upperBound...] }
        }
        guard let found else { return nil }
        let answer = AnswerRule.withoutThousands(AnswerRule.trimmed(found))
        return answer.isEmpty ? nil : answer
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let front = text.drop(while: \.isWhitespace)
        guard let last = front.lastIndex(where: { !$0.isWhitespace }) else { return "" }
        return front[...last]
    }

    /// Leaves out each comma with a digit before it and three, but no fourth, behind it.
    private static func withoutThousands(_ text: Substring) -> String {
        let scalars = Array(text.unicodeScalars)
        func isDigit(_ index: Int) -> Bool { scalars.indices.contains(index) && ("0"..."9").contains(scalars[index]) }
        var result = String.UnicodeScalarView()
        for (index, scalar) in scalars.enumerated() {
            let isThousands = scalar == "," && isDigit(index - 1) && (1...3).allSatisfy { isDigit(index + $0) } && !isDigit(index + 4)
            if !isThousands { result.append(scalar) }
        }
        return String(result)
    }
}
