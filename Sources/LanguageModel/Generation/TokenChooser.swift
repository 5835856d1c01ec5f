#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Draws tokens from logits, by `GenerationOptions`.
struct TokenChooser {
    let options: GenerationOptions

    /// One token of the softmax of logits / temperature, cut as the options say: the first whose cumulated probability, in the
    /// order of tokens, is above the next uniform number.
    ///
    /// - Parameter largest: the largest of `logits`.
    /// - Complexity: O(V), O(V log V) with a cut.
    func draw(_ logits: UnsafeBufferPointer<Float>, largest: Float, _ random: inout Philox) -> Int32 {
        var weights = logits.map { exp((Double($0) - Double(largest)) / options.temperature) }
        if options.topK != nil || options.topP != nil { cut(&weights, logits) }
        let target = random.uniform() * weights.reduce(0, +)
        var sum = 0.0
        var last = 0
        for (token, weight) in weights.enumerated() where weight > 0 {
            sum += weight
            last = token
            if sum > target { break }
        }
        return Int32(last)
    }

    /// Zero for tokens that are not drawn. Of equal logits those of lower id are kept.
    private func cut(_ weights: inout [Double], _ logits: UnsafeBufferPointer<Float>) {
        var order = Array(logits.indices)
        order.sort { (logits[$0], $1) > (logits[$1], $0) }
        var kept = min(options.topK ?? order.count, order.count)
        if let topP = options.topP {
            let total = order[..<kept].reduce(0) { $0 + weights[$1] }
            var sum = 0.0
            kept = 1 + (order[..<kept].firstIndex { token in
                sum += weights[token]
                return sum >= topP * total
            } ?? kept - 1)
        }
        for token in order[kept...] { weights[token] = 0 }
    }
}
