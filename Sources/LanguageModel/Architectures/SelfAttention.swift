/// The attention of decoders of Llama's kind: four products, rotary positions, heads of keys and values that groups of
/// query heads share.
struct SelfAttention: Sendable {
    var query: Linear  // (H * d, D)
    var key: Linear  // (G * d, D)
    var value: Linear  // (G * d, D)
    var output: Linear  // (D, H * d)
    var heads: AttentionHeads
    var window: Int?
    var table: RopeTable
    var epsilon: Float
    /// Norms of queries and keys before they turn.
    var norms: Norms

    enum Norms: Sendable {
        case none
        /// Each head by itself: gains (d).
        case heads(query: [Float], key: [Float])
        /// All heads together: gains (H * d), (G * d).
        case whole(query: [Float], key: [Float])
    }

    init(
        _ weights: Weights, _ name: String, _ config: DecoderConfiguration, layer: Int, table: RopeTable, bias: Bool,
        outputBias: Bool, scale: Float? = nil, norms: Norms = .none
    ) throws(LanguageModelError) {
        heads = AttentionHeads(count: config.headCount, keyCount: config.keyHeadCount, size: config.headSize, scale: scale)
        let (queries, keys) = (heads.count * heads.size, heads.keyCount * heads.size)
        query = try Linear(weights, name + ".q_proj", queries, config.hiddenSize, hasBias: bias)
        key = try Linear(weights, name + ".k_proj", keys, config.hiddenSize, hasBias: bias)
        value = try Linear(weights, name + ".v_proj", keys, config.hiddenSize, hasBias: bias)
        output = try Linear(weights, name + ".o_proj", config.hiddenSize, queries, hasBias: outputBias)
        window = config.windows[layer]
        self.table = table
        epsilon = config.epsilon
        self.norms = norms
    }

    static func projections(_ config: DecoderConfiguration) -> Int {
        (config.headCount + 2 * config.keyHeadCount) * config.headSize
    }

    static func cachedColumns(_ config: DecoderConfiguration) -> Int { 2 * config.keyHeadCount * config.headSize }

    /// Queries, keys and values of rows `rows` from x (rows, D), normed and turned.
    func project(_ x: Matrix, _ rows: Range<Int>, _ pass: ForwardPass) throws(LanguageModelError) {
        let all = pass.projected
        let (queries, keys) = (0..<heads.keyOffset, heads.keyOffset..<heads.valueOffset)
        try pass.linear(x, query, into: all[rows: rows][columns: queries])
        try pass.linear(x, key, into: all[rows: rows][columns: keys])
        try pass.linear(x, value, into: all[rows: rows][columns: heads.valueOffset..<all.columns])
        switch norms {
        case .none: break
        case .heads(let query, let key):
            pass.rmsNormHeads(all[rows: rows], offset: 0, count: heads.count, query, epsilon)
            pass.rmsNormHeads(all[rows: rows], offset: heads.keyOffset, count: heads.keyCount, key, epsilon)
        case .whole(let query, let key):
            pass.rmsNorm(all[rows: rows][columns: queries], query, epsilon, into: all[rows: rows][columns: queries])
            pass.rmsNorm(all[rows: rows][columns: keys], key, epsilon, into: all[rows: rows][columns: keys])
        }
        // Keys follow the queries, so one call turns both.
        pass.rotate(
            all, rows: rows, offset: 0, count: heads.count + heads.keyCount, headStride: heads.size, table)
    }

    /// What the heads of rows `rows` see, (rows, H * d), before the output product.
    func attend(_ rows: Range<Int>, _ pass: ForwardPass) -> Matrix {
        let mixed = pass.scratch(1, rows.count, heads.count * heads.size)
        pass.attend(heads, window: window, rows: rows, into: mixed)
        return mixed
    }
}
