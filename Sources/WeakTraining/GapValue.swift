/// What snapshots of a history can still teach a strong one, by the entropies of both on one probe (arXiv 2602.08222).
///
/// For a strong S, a candidate W and a sample i, g_i(W) = b [H_W(i) - H_S(i)]+ + c [H_S(i) - H_W(i)]+ in nats per token. A set K
/// is worth V(K), the sum over i of the largest g_i in K; figures here are V / |D|. Two guards set a candidate's g to zero, since
/// g grows with H_W and a random model would always win.
public struct GapValue: Sendable {
    /// What gains are made of, and which candidates are refused.
    public struct Settings: Sendable {
        /// Weight of what the strong snapshot became sure of.
        public var consolidation = 0.8
        /// Weight of what it became less sure of.
        public var regression = 0.1
        /// A candidate whose mean(H_W - H_S) is below this at the lower end of its interval is too close, in nats per token.
        public var leastGap = 0.02

        public init() {}
    }

    /// Why a candidate is refused as a weak one.
    public enum Guard: String, Sendable {
        /// It is not refused.
        case none
        /// It is hardly less sure than the strong snapshot.
        case tooClose = "too_close"
        /// It is no better than the frequencies of the tokens.
        case tooWeak = "too_weak"
    }

    /// A candidate's entropies, one a sample of the probe, in its order.
    public struct Candidate: Sendable {
        /// Mean entropies of completions, in nats per token.
        public var entropy: [Double]
        /// Over all scored tokens, in nats per token.
        public var meanNLL: Double

        public init(entropy: [Double], meanNLL: Double) {
            self.entropy = entropy
            self.meanNLL = meanNLL
        }
    }

    /// What is said of one candidate, in nats per token.
    public struct Row: Sendable {
        /// Index of the candidate.
        public var candidate: Int
        /// V({W}) / |D|
        public var value: Bootstrap
        /// What it adds to those picked before it, greedily: V(K + W) - V(K), over |D|.
        public var marginal: Double
        /// Place in the greedy order, from 0.
        public var pick: Int
        /// mean(H_S - H_W)
        public var meanDH: Bootstrap
        /// Why it is refused, if it is.
        public var guarding: Guard
    }

    /// In the order of the candidates.
    public let rows: [Row]
    /// g of each candidate, one a sample; all zero for one that is refused.
    public let gains: [[Double]]
    /// The candidate worth most; of those whose intervals overlap with its own, the latest. Nil when the guards refuse all.
    public let best: Int?

    /// - Parameters:
    ///   - strong: the strong snapshot's entropies, one a sample.
    ///   - candidates: from the oldest to the newest; each with as many samples.
    ///   - unigramNLL: of the probe's scored tokens: a candidate that does no better is too weak.
    /// - Complexity: O(candidates^2 * samples), and a bootstrap for each.
    public init(strong: [Double], candidates: [Candidate], unigramNLL: Double, _ settings: Settings = Settings()) {
        let count = Double(max(1, strong.count))
        var rows: [Row] = []
        var gains: [[Double]] = []
        for (index, candidate) in candidates.enumerated() {
            precondition(candidate.entropy.count == strong.count)
            let differences = zip(strong, candidate.entropy).map { $0 - $1 }
            let meanDH = Bootstrap(differences)
            let guarding: Guard =
                candidate.meanNLL >= unigramNLL ? .tooWeak : -meanDH.high < settings.leastGap ? .tooClose : .none
            let gain = differences.map { difference in
                guarding == .none ? settings.consolidation * max(0, -difference) + settings.regression * max(0, difference) : 0
            }
            gains.append(gain)
            rows.append(
                Row(
                    candidate: index, value: Bootstrap(gain), marginal: 0, pick: 0, meanDH: meanDH, guarding: guarding))
        }
        var covered = [Double](repeating: 0, count: strong.count)
        var left = Array(rows.indices)
        for pick in rows.indices {
            let marginals = left.map { index in
                zip(covered, gains[index]).reduce(0) { $0 + max(0, $1.1 - $1.0) } / count
            }
            // Of those that add equally much the one worth most by itself, of equals the newest.
            let at = marginals.indices.max {
                (marginals[$0], rows[left[$0]].value.mean, left[$0]) < (marginals[$1], rows[left[$1]].value.mean, left[$1])
            }!
            let index = left.remove(at: at)
            rows[index].marginal = marginals[at]
            rows[index].pick = pick
            for sample in covered.indices { covered[sample] = max(covered[sample], gains[index][sample]) }
        }
        self.rows = rows
        self.gains = gains
        let allowed = rows.filter { $0.guarding == .none }
        let greatest = allowed.max { $0.value.mean < $1.value.mean }
        best = greatest.flatMap { greatest in
            allowed.last { $0.value.high >= greatest.value.low }?.candidate
        }
    }
}
