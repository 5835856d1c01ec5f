/// Sequences laid one behind the other, with nothing between them: tokens[starts[i] ..< starts[i + 1]] is sequence i.
struct Batch {
    private(set) var tokens: [Int32] = []
    private(set) var sequences: [Range<Int>] = []
    /// The place of each token in its sequence.
    private(set) var positions: [Int] = []

    /// - Parameter start: tokens of the sequence that were run before, and whose keys and values are kept.
    mutating func append(_ sequence: some Collection<Int32>, from start: Int = 0) {
        sequences.append(tokens.count..<(tokens.count + sequence.count))
        tokens.append(contentsOf: sequence)
        positions.append(contentsOf: start..<start + sequence.count)
    }
}
