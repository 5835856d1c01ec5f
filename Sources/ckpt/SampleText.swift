import CheckpointStore

/// What a sample of a probe says, on one line: its text, else the pieces of its tokens, else their ids.
struct SampleText {
    private let probe: Probe

    init(_ probe: Probe) { self.probe = probe }

    /// The end of the prompt and the beginning of the completion, with a bar between them, in `width` characters.
    func excerpt(_ index: Int, width: Int) -> String {
        let sample = probe.samples[index]
        let start = sample.supervised[0].lowerBound
        let prompt = SampleText.line(sample.prompt ?? text(sample.tokens[..<start]))
        let completion = SampleText.line(sample.completion ?? text(sample.tokens[start...]))
        let room = width - 3
        // Each may have what the other leaves of its half.
        let front = min(prompt.count, max(room / 2, room - completion.count))
        let left = prompt.count > front ? "…" + prompt.suffix(front - 1) : prompt
        let back = room - left.count
        return left + " | " + (completion.count > back ? completion.prefix(back - 1) + "…" : completion)
    }

    private func text(_ tokens: ArraySlice<Int32>) -> String {
        let pieces = tokens.compactMap { probe.pieces[$0] }
        guard pieces.count == tokens.count else { return tokens.map { "\($0)" }.joined(separator: " ") }
        return String(decoding: pieces.joined(), as: UTF8.self)
    }

    /// Printable, and each stretch of white space one space.
    static func line(_ text: String) -> String {
        Console.printable(text.split(whereSeparator: \.isWhitespace).joined(separator: " "))
    }
}
