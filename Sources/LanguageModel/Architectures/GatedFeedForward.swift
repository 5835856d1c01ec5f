/// down(activation(gate(x)) * up(x))
struct GatedFeedForward: Sendable {
    var gate: Linear  // (F, D)
    var up: Linear  // (F, D)
    var down: Linear  // (D, F)
    var activation: Activation

    init(_ weights: Weights, _ name: String, _ config: DecoderConfiguration) throws(LanguageModelError) {
        let bias = config.feedForwardBias
        gate = try Linear(weights, name + ".gate_proj", config.innerSize, config.hiddenSize, hasBias: bias)
        up = try Linear(weights, name + ".up_proj", config.innerSize, config.hiddenSize, hasBias: bias)
        down = try Linear(weights, name + ".down_proj", config.hiddenSize, config.innerSize, hasBias: bias)
        activation = config.activation
    }

    /// activation(gate(x)) * up(x), (rows, F), for `down`.
    func gated(_ x: Matrix, _ pass: ForwardPass) throws(LanguageModelError) -> Matrix {
        let inner = gate.weight.rows
        let gates = pass.scratch(2, x.rows, inner)
        let ups = pass.scratch(3, x.rows, inner)
        try pass.linear(x, gate, into: gates)
        try pass.linear(x, up, into: ups)
        pass.activate(activation, gates, ups)
        return gates
    }
}
