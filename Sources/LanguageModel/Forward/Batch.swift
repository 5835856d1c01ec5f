/// Sequences laid one behind the other, with nothing between them: tokens[starts[i] ..< starts[i + 1]] is sequence i.
struct Batch {
    private(set) var tokens: [Int32] = []
    private(set) var sequences: [Range<Int>] = []
    /// The place of each token in its sequence.
    private(set) var positions: [Int] = []
    /// What is kept of each sequence; empty where nothing is.
    private(set) var caches: [KeyValueCache] = []

    mutating func append(_ sequence: some Collection<Int32>) {
        sequences.append(tokens.count..<(tokens.count + sequence.count))
        tokens.append(contentsOf: sequence)
        positions.append(contentsOf: 0..<sequence.count)
    }

    /// The tokens that follow those that `cache` holds. All sequences of a batch have one, or none has.
    mutating func append(_ sequence: some Collection<Int32>, after cache: KeyValueCache) {
        precondition(caches.count == sequences.count && cache.count + sequence.count <= cache.capacity)
        caches.append(cache)
        sequences.append(tokens.count..<(tokens.count + sequence.count))
        tokens.append(contentsOf: sequence)
        positions.append(contentsOf: cache.count..<cache.count + sequence.count)
    }
}
