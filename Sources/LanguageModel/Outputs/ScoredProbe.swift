public import CheckpointStore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A probe whose samples are cut to a length: what models are run on. Records of one model and of a pair use the same one.
public struct ScoredProbe: Sendable {
    /// The probe's.
    public let id: ContentID
    /// Its samples, uncut.
    public let probe: Probe
    /// Samples that were cut at the right, by id.
    public let cutSamples: [String]

    /// As models are run on them.
    public let samples: [ScoringSample]
    /// The length, where it cuts a sample: a limit that cuts nothing changes no figure, so no key holds it.
    let cutLength: Int?

    /// - Parameters:
    ///   - name: the probe's, or a unique prefix of its id.
    ///   - maximumLength: tokens of a sample that are read; the rest is cut off at the right.
    /// - Throws: `.noSuchRef`; `.badInput` naming a sample that has no scored token left once it is cut.
    public init(_ store: Store, _ name: String, maximumLength: Int) throws(StoreError) {
        let stored = try store.probe(name)
        try self.init(stored.probe, id: stored.id, name: "probe \(name)", maximumLength: maximumLength)
    }

    /// The same of samples that are in no store.
    ///
    /// - Parameters:
    ///   - id: the probe's.
    ///   - name: as errors name it.
    public init(_ probe: Probe, id: ContentID, name: String, maximumLength: Int) throws(StoreError) {
        guard maximumLength > 1 else { throw StoreError(.badInput, "a length limit of \(maximumLength)", hint: "at least 2") }
        self.id = id
        self.probe = probe
        var samples: [ScoringSample] = []
        var cut: [String] = []
        for sample in probe.samples {
            var scoring = ScoringSample(tokens: sample.tokens, supervised: sample.supervised, name: sample.id)
            if sample.tokens.count > maximumLength {
                cut.append(sample.id)
                scoring.tokens = Array(sample.tokens[..<maximumLength])
                scoring.supervised = sample.supervised.map { $0.clamped(to: 1..<maximumLength) }.filter { !$0.isEmpty }
                guard scoring.count > 0 else {
                    throw StoreError(
                        .badInput, "\(name): sample \(sample.id) has no scored token in its first \(maximumLength)",
                        hint: "a greater --max-length")
                }
            }
            samples.append(scoring)
        }
        self.samples = samples
        cutSamples = cut
        cutLength = cut.isEmpty ? nil : maximumLength
    }

    /// Samples of more than `length` tokens, once they are cut.
    public func count(longerThan length: Int) -> Int { samples.count { $0.tokens.count > length } }

    /// Tokens of the longest sample.
    public var longest: Int { samples.map(\.tokens.count).max() ?? 1 }

    /// The scored tokens of a sample, and their places in it.
    func targets(_ sample: Int) -> [(position: Int, token: Int32)] {
        samples[sample].supervised.joined().map { ($0, samples[sample].tokens[$0]) }
    }

    /// Entropy of the scored tokens' own frequencies, in nats a token: a model that knows nothing but these reaches it.
    public var unigramNLL: Double {
        var counts: [Int32: Int] = [:]
        for sample in samples.indices {
            for (_, token) in targets(sample) { counts[token, default: 0] += 1 }
        }
        let total = Double(counts.values.reduce(0, +))
        return counts.values.sorted().reduce(0) { $0 - Double($1) / total * log(Double($1) / total) }
    }
}
