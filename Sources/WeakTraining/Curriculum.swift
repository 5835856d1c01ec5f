/// Weights by which samples are drawn, from what a weak and a strong snapshot are unsure of.
public struct Curriculum: Sendable, Equatable {
    /// Of the three terms of `v1`, `v2` and `code`, in the order in which `Selection` writes them.
    public struct Coefficients: Sendable, Equatable {
        public var a = 0.1
        public var b = 0.8
        public var c = 0.1

        public init() {}

        /// - Throws: `.usage` unless all three are finite and not negative, and one is above zero.
        public init(a: Double, b: Double, c: Double) throws(WeakTrainingError) {
            guard [a, b, c].allSatisfy({ $0.isFinite && $0 >= 0 }), a + b + c > 0 else {
                throw WeakTrainingError(
                    .usage, "--coefficients: \(a), \(b), \(c): each is zero or more, and not all are zero",
                    hint: "the default is .1, .8, .1")
            }
            (self.a, self.b, self.c) = (a, b, c)
        }
    }

    public var selection: Selection
    public var coefficients: Coefficients

    public init(_ selection: Selection, _ coefficients: Coefficients = Coefficients()) {
        self.selection = selection
        self.coefficients = coefficients
    }

    /// Weights, one a sample: finite, not negative, with a sum above zero. `format-spec/random.md` has the order of every sum.
    ///
    /// - Parameters:
    ///   - ids: of the samples, for errors.
    ///   - weak: mean entropies of their completions, in nats per token; nil for a sample that has none. Not looked at where
    ///     `selection` does not read them.
    ///   - strong: likewise.
    /// - Throws: `.badInput` with the sample's id for an entropy or a weight that is missing, not finite or negative; without one
    ///   where the weights' sum is zero or too large.
    /// - Complexity: O(samples), times the length of a formula.
    public func weights(ids: [String], weak: [Double?], strong: [Double?]) throws(WeakTrainingError) -> [Double] {
        guard !ids.isEmpty else { throw WeakTrainingError(.badInput, "no samples to draw from") }
        let none = [Double](repeating: 0, count: ids.count)
        let weak = selection.readsWeak ? try Curriculum.checked(weak, ids, "weak") : none
        let strong = selection.readsStrong ? try Curriculum.checked(strong, ids, "strong") : none
        let weights = raw(weak, strong)
        for (id, weight) in zip(ids, weights) where !(weight.isFinite && weight >= 0) {
            throw WeakTrainingError(
                .badInput, "sample \(id): its weight by --select \(selection.text) is \(weight)",
                hint: "weights are finite and not negative: [x]+ is the greater of x and zero")
        }
        let sum = weights.reduce(0, +)
        guard SampleDraw.isUsable(sum) else {
            throw WeakTrainingError(
                .badInput, "the weights of all \(ids.count) samples by --select \(selection.text) have the sum \(sum)",
                hint: sum == 0
                    ? "no sample has anything to teach: another weak snapshot, or --select uniform" : "weights nearer to one")
        }
        return weights
    }

    private func raw(_ weak: [Double], _ strong: [Double]) -> [Double] {
        let (a, b, c) = (coefficients.a, coefficients.b, coefficients.c)
        let differences = zip(strong, weak).map { $0 - $1 }
        let surer = differences.map { Curriculum.positive(-$0) }
        let lessSure = differences.map(Curriculum.positive)
        switch selection {
        case .uniform: return [Double](repeating: 1, count: weak.count)
        case .v1: return weak.indices.map { a * weak[$0] + b * surer[$0] + c * lessSure[$0] }
        case .v2: return weak.indices.map { a * surer[$0] + b * strong[$0] + c * lessSure[$0] }
        case .code:
            let terms = [(a, weak), (b, surer), (c, lessSure)].map { factor, term in
                // A term that is zero everywhere has no share to give.
                let sum = term.reduce(0, +)
                return sum > 0 ? term.map { factor * $0 / sum } : term
            }
            return weak.indices.map { terms[0][$0] + terms[1][$0] + terms[2][$0] }
        case .formula(let formula): return formula.values(weak: weak, strong: strong)
        }
    }

    /// [x]+; what is not a number stays so.
    static func positive(_ x: Double) -> Double { x < 0 ? 0 : x }

    private static func checked(_ entropies: [Double?], _ ids: [String], _ which: String) throws(WeakTrainingError) -> [Double] {
        guard entropies.count == ids.count else {
            throw WeakTrainingError(.badInput, "\(entropies.count) entropies of the \(which) snapshot for \(ids.count) samples")
        }
        var checked: [Double] = []
        checked.reserveCapacity(ids.count)
        for (id, entropy) in zip(ids, entropies) {
            guard let entropy else {
                throw WeakTrainingError(
                    .badInput, "sample \(id): the \(which) snapshot has no entropy", hint: "ckpt entropy computes it")
            }
            guard entropy.isFinite, entropy >= 0 else {
                throw WeakTrainingError(.badInput, "sample \(id): the \(which) snapshot's entropy is \(entropy)")
            }
            checked.append(entropy)
        }
        return checked
    }
}
