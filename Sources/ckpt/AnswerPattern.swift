import CheckpointStore

/// Finds the answer in a text: what follows the last marker, or the last match of a regular expression.
struct AnswerPattern {
    private let marker: String
    private let pattern: Regex<AnyRegexOutput>?

    /// - Throws: `.badInput` for what is no regular expression.
    init(marker: String, pattern: String?) throws(StoreError) {
        self.marker = marker
        do {
            self.pattern = try pattern.map { try Regex($0) }
        } catch {
            throw StoreError(.badInput, "--pattern \(pattern ?? ""): \(error)")
        }
    }

    /// Without a pattern: to the end of the line after the last marker, or where none is, nil. With one: the first group of its last
    /// match, or the whole match where it has no group.
    func answer(in text: String) -> String? {
        if let pattern {
            guard let match = text.matches(of: pattern).last else { return nil }
            let found = match.output.count > 1 ? match.output[1].substring : match.output[0].substring
            return AnswerPattern.plain(String(found ?? ""))
        }
        guard let place = text.ranges(of: marker).last else { return nil }
        return AnswerPattern.plain(String(text[place.upperBound...].prefix { !$0.isNewline }))
    }

    /// What a reference text has for an answer: all of it where it has no marker and there is no pattern.
    func reference(_ text: String) -> String? { answer(in: text) ?? (pattern == nil ? AnswerPattern.plain(text) : nil) }

    /// The answer to compare with one whose reference has no marker: all of the text.
    func generated(_ text: String, reference: String) -> String? {
        answer(in: reference) == nil && pattern == nil ? AnswerPattern.plain(text) : answer(in: text)
    }

    /// Without white space around it, and without commas between digits.
    private static func plain(_ text: String) -> String {
        let trimmed = text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()
        let characters = Array(trimmed)
        return String(
            characters.enumerated().filter { index, character in
                guard character == ",", index > 0, index + 1 < characters.count else { return true }
                return !(characters[index - 1].isNumber && characters[index + 1].isNumber)
            }.map(\.element))
    }
}

/// A share, with its Wilson 95 % interval (Wilson 1927).
struct Share {
    let count: Int
    let total: Int

    var value: Double { total == 0 ? 0 : Double(count) / Double(total) }
    var interval: (low: Double, high: Double) {
        guard total > 0 else { return (0, 1) }
        let (n, z) = (Double(total), 1.959964)
        let middle = (value + z * z / (2 * n)) / (1 + z * z / n)
        let half = z * ((value * (1 - value) + z * z / (4 * n)) / n).squareRoot() / (1 + z * z / n)
        return (max(0, middle - half), min(1, middle + half))
    }
}
