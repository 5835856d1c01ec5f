/// Sequences laid one behind the other, with nothing between them: tokens[starts[i] ..< starts[i + 1]] is sequence i.
struct Batch {
    private(set) var tokens: [Int32] = []
    private(set) var sequences: [Range<Int>] = []
    /// The place of each token in its sequence.
    private(set) var positions: [Int] = []

    mutating func append(_ sequence: some Collection<Int32>) {
        sequences.append(tokens.count..<(tokens.count + sequence.count))
        tokens.append(contentsOf: sequence)
        positions.append(contentsOf: 0..<sequence.count)
    }
}
