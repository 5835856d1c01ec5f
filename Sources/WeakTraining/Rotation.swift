internal import LanguageModel

/// One position's logits with those of all tokens but the target moved around by a fixed offset: as unsure as before, and without
/// what the model knew (`--mix shuffled`).
///
/// The tokens that are not the target, in their order, have ranks 0 ..< V - 1. The rotated logit at rank r is the original one at
/// rank (r + offset) mod (V - 1); the target keeps its own. The offset, in 1 ..< V - 1, is drawn for (seed, sample, position) and
/// thereby the same in every pass.
public struct Rotation: Sendable, Equatable {
    /// V, at least 3.
    public let vocabulary: Int
    public let target: Int
    public let offset: Int

    /// - Parameters:
    ///   - vocabulary: V, at least 3: two tokens that are not the target are needed to change places.
    ///   - target: the token that is right, in 0 ..< V.
    ///   - offset: in 1 ..< V - 1.
    public init(vocabulary: Int, target: Int, offset: Int) {
        precondition(vocabulary >= 3 && (0..<vocabulary).contains(target) && (1..<vocabulary - 1).contains(offset))
        self.vocabulary = vocabulary
        self.target = target
        self.offset = offset
    }

    /// - Parameters:
    ///   - sample: its place among all samples.
    ///   - position: of the target among the sample's tokens.
    public init(vocabulary: Int, target: Int, seed: UInt64, sample: Int, position: Int) {
        var stream = Philox(seed: seed, .rotate, round: UInt32(sample), pass: UInt32(position))
        self.init(vocabulary: vocabulary, target: target, offset: 1 + stream.index(below: vocabulary - 2))
    }

    /// The rotation that undoes this one. Applied to the gradient at the rotated logits it gives that at the original ones.
    public var inverse: Rotation { Rotation(vocabulary: vocabulary, target: target, offset: vocabulary - 1 - offset) }

    /// The token whose original logit is the rotated logit of `token`. O(1).
    public func source(of token: Int) -> Int {
        if token == target { return target }
        let rank = token < target ? token : token - 1
        let moved = (rank + offset) % (vocabulary - 1)
        return moved < target ? moved : moved + 1
    }

    /// The token whose rotated logit is the original logit of `token`. O(1).
    public func destination(of token: Int) -> Int { inverse.source(of: token) }

    /// Tokens side by side whose sources lie side by side too.
    public struct Run: Sendable, Equatable {
        public var tokens: Range<Int>
        /// The source of the first of them.
        public var source: Int
    }

    /// The sources of `tokens`, in as few runs as there are: five at most.
    ///
    /// - Parameter tokens: a tile of the row, within 0 ..< V.
    public func runs(_ tokens: Range<Int>) -> [Run] {
        // Sources break off at the target, after it, where ranks begin anew, and where they step over the target.
        let anew = destination(of: target == 0 ? 1 : 0)
        let past = target + 1 < vocabulary ? destination(of: target + 1) : 0
        var runs: [Run] = []
        var first = tokens.lowerBound
        for end in [target, target + 1, anew, past].sorted() + [tokens.upperBound] where end > first && end <= tokens.upperBound {
            runs.append(Run(tokens: first..<end, source: source(of: first)))
            first = end
        }
        return runs
    }

    /// Writes the rotated logits of `tokens`, a tile of the row.
    ///
    /// - Parameters:
    ///   - row: the original ones, V.
    ///   - tile: one for each of `tokens`.
    /// - Complexity: O(tokens).
    public func apply(to row: Span<Float>, _ tokens: Range<Int>, into tile: inout MutableSpan<Float>) {
        precondition(row.count == vocabulary && tile.count == tokens.count)
        for run in runs(tokens) {
            for token in run.tokens { tile[token - tokens.lowerBound] = row[run.source + token - run.tokens.lowerBound] }
        }
    }
}
