#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Chooses the next token by a row of logits.
struct TokenChoice {
    let options: GenerationOptions

    /// - Parameter uniform: in 0 ..< 1: which of the tokens it is.
    /// - Returns: the token, and ln P of it at temperature 1.
    /// - Complexity: O(V), with `topK` or `topP` O(V log V).
    func choose(_ logits: UnsafeBufferPointer<Float>, _ uniform: () -> Double) -> (token: Int, logProbability: Float) {
        var top = 0
        for token in logits.indices where logits[token] > logits[top] { top = token }
        let largest = Double(logits[top])
        var sum = 0.0
        for logit in logits { sum += exp(Double(logit) - largest) }
        let token = options.temperature == 0 ? top : draw(logits, largest, uniform())
        return (token, Float(Double(logits[token]) - largest - log(sum)))
    }

    /// By the inverse of the distribution function, in the order of the tokens.
    private func draw(_ logits: UnsafeBufferPointer<Float>, _ largest: Double, _ uniform: Double) -> Int {
        var weights = logits.map { exp((Double($0) - largest) / options.temperature) }
        if options.topK != nil || options.topP < 1 { restrict(&weights) }
        let wanted = uniform * weights.reduce(0, +)
        var sum = 0.0
        var last = 0
        for (token, weight) in weights.enumerated() where weight > 0 {
            sum += weight
            last = token
            if sum > wanted { return token }
        }
        return last
    }

    /// Zeros for tokens that are not to be drawn; of equally likely ones the first are kept.
    private func restrict(_ weights: inout [Double]) {
        let order = weights.indices.sorted { (weights[$0], $1) > (weights[$1], $0) }
        var kept = min(order.count, options.topK ?? order.count)
        if options.topP < 1 {
            let wanted = options.topP * order[..<kept].reduce(0) { $0 + weights[$1] }
            var sum = 0.0
            kept = (order[..<kept].firstIndex { token in
                sum += weights[token]
                return sum >= wanted
            } ?? kept - 1) + 1
        }
        for token in order[max(1, kept)...] { weights[token] = 0 }
    }
}
