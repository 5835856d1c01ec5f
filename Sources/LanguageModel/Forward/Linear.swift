/// A product with a bias, which may be absent.
struct Linear: Sendable {
    /// (out, in)
    var weight: Weight
    /// (out)
    var bias: [Float]?

    init(_ weights: Weights, _ name: String, _ out: Int, _ in: Int, hasBias: Bool) throws(LanguageModelError) {
        weight = try weights.matrix(name + ".weight", out, `in`)
        bias = hasBias ? try weights.vector(name + ".bias", out) : nil
    }
}

/// Gain and bias of a layer normalisation.
struct LayerNorm: Sendable {
    var gain: [Float]
    var bias: [Float]
    var epsilon: Float

    init(_ weights: Weights, _ name: String, _ count: Int, epsilon: Float) throws(LanguageModelError) {
        gain = try weights.vector(name + ".weight", count)
        bias = try weights.vector(name + ".bias", count)
        self.epsilon = epsilon
    }
}
