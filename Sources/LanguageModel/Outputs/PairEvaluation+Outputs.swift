public import CheckpointStore

/// What two snapshots say about one sample, averaged over its scored tokens, in nats.
public struct PairMeans: Sendable {
    /// Index in the probe.
    public var sample: Int
    /// The weak model's own figures.
    public var weak: SampleMeans
    /// The strong model's own figures.
    public var strong: SampleMeans
    /// KL(strong || weak), and the other way round.
    public var klStrongWeak: Double
    public var klWeakStrong: Double
    public var lnC: Double
    /// Of the tokens that are not the target, the share whose margin to it is smaller for the weak model.
    public var hardNegatives: Double

    public var id: String { strong.id }
    /// H(strong) - H(weak): below zero for what the strong one became sure of.
    public var dH: Double { strong.entropy - weak.entropy }
}

/// What two snapshots say about one token, in nats.
public struct TokenPair: Sendable {
    /// Among the tokens of the sample.
    public var position: Int
    /// The one that is right.
    public var token: Int32
    public var weak: OwnOutputs
    public var strong: OwnOutputs
    public var klStrongWeak: Double
    public var klWeakStrong: Double
    public var lnC: Double
    public var hardNegatives: Double

    /// Of the strong model less the weak, in nats.
    public var dH: Double { strong.entropy - weak.entropy }

    /// One model's own figures of a token.
    public struct OwnOutputs: Sendable {
        /// In nats.
        public var entropy: Double
        /// -ln P of the token that is right, in nats.
        public var nll: Double
        /// The likeliest token.
        public var top: Int32
    }
}

extension PairEvaluation {
    /// Means of all samples, in the order of the probe, from records that are complete.
    ///
    /// - Throws: `.noSuchRef` when a record is not there, `.conflict` when one lacks a sample, `.damaged`.
    /// - Complexity: O(figures).
    public func outputs() throws(StoreError) -> [PairMeans] {
        let weakMeans = try weak.outputs()
        let strongMeans = try strong.outputs()
        let pairs = try store.outputs(of: key)
        guard [weakMeans.count, strongMeans.count, pairs.count].allSatisfy({ $0 == probe.samples.count }) else {
            throw incomplete
        }
        return pairs.map { pair in
            let means = pair.values.map(SampleMeans.mean)
            return PairMeans(
                sample: pair.sample, weak: weakMeans[pair.sample], strong: strongMeans[pair.sample], klStrongWeak: means[0],
                klWeakStrong: means[1], lnC: means[2], hardNegatives: means[3])
        }
    }

    /// The tokens of one sample that is in all three records.
    public func tokens(_ sample: Int) throws(StoreError) -> [TokenPair] {
        func outputs(_ key: EntropyKey) throws(StoreError) -> SampleOutputs {
            guard let found = try store.outputs(of: key).first(where: { $0.sample == sample }) else { throw incomplete }
            return found
        }
        let (weak, strong, pair) = (try outputs(weak.key), try outputs(strong.key), try outputs(key))
        let targets = probe.targets(sample)
        guard [weak.count, strong.count, pair.count].allSatisfy({ $0 == targets.count }) else { throw incomplete }
        func own(_ outputs: SampleOutputs, _ index: Int) -> TokenPair.OwnOutputs {
            TokenPair.OwnOutputs(
                entropy: Double(outputs.values[0][index]), nll: Double(outputs.values[1][index]),
                top: Int32(bitPattern: outputs.top1[index]))
        }
        return targets.enumerated().map { index, target in
            let figures = pair.values.map { Double($0[index]) }
            return TokenPair(
                position: target.position, token: target.token, weak: own(weak, index), strong: own(strong, index),
                klStrongWeak: figures[0], klWeakStrong: figures[1], lnC: figures[2], hardNegatives: figures[3])
        }
    }

    private var incomplete: StoreError {
        StoreError(.conflict, "\(strong.ref): an entropy record was changed meanwhile", hint: "the same command again")
    }
}
