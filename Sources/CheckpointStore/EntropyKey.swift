/// What an entropy record is kept under: figures of one snapshot on one probe, made with these settings.
public struct EntropyKey: Sendable, Hashable {
    /// The snapshot that was run; of a pair, the strong one.
    public var snapshot: ContentID
    public var probe: ContentID
    /// Everything that changes the figures: `max_length`, `precision`, `weak` (the id of another snapshot, 64 digits),
    /// `lambda` and the like. Where `max_length` is set, samples may have fewer figures than supervised tokens.
    public var settings: [String: String]

    public init(snapshot: ContentID, probe: ContentID, settings: [String: String] = [:]) {
        self.snapshot = snapshot
        self.probe = probe
        self.settings = settings
    }

    /// SHA-256 over the three.
    public var id: ContentID { ContentID.hash(of: encoded) }

    static let magic = Array("ckptent1".utf8)

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: EntropyKey.magic)
        writer.put(snapshot)
        writer.put(probe)
        writer.put(settings: settings)
        return writer.bytes
    }

    /// The snapshot whose logits were mixed in or compared with; nil: none, or `settings["weak"]` is no id.
    var weak: ContentID? { settings["weak"].flatMap { ContentID(digits: $0) } }

    func names(_ snapshot: ContentID) -> Bool { self.snapshot == snapshot || weak == snapshot }
}

/// A figure kept for each supervised token. The numbers are part of the format.
public enum EntropyColumn: UInt8, Sendable, CaseIterable, Comparable {
    /// Entropy of the distribution that predicts the token, in nats.
    case entropy = 0
    /// Negative log likelihood of the token, in nats.
    case nll = 1
    /// The most likely token: a `UInt32`, where the others are `Float`.
    case top1 = 2
    /// Kullback-Leibler divergence of the weak snapshot's distribution from the strong one's, and the other way round.
    case klStrongWeak = 3
    /// Of the strong snapshot's distribution from the weak one's.
    case klWeakStrong = 4
    /// ln C of the mixed distribution.
    case lnC = 5
    /// Of the wrong tokens, the share whose margin is smaller in the weak snapshot than in the strong one.
    case hardNegatives = 6

    /// What its figures can be, with room for the rounding of other programs.
    var range: ClosedRange<Double> {
        let rounding = 1e-3
        return switch self {
        case .entropy, .nll, .klStrongWeak, .klWeakStrong: -rounding...Double.infinity
        case .lnC: -Double.infinity...rounding
        case .hardNegatives: -rounding...1 + rounding
        case .top1: 0...Double(UInt32.max)
        }
    }

    /// As files and JSON have it.
    public var name: String {
        switch self {
        case .entropy: "entropy"
        case .nll: "nll"
        case .top1: "top1"
        case .klStrongWeak: "kl_strong_weak"
        case .klWeakStrong: "kl_weak_strong"
        case .lnC: "ln_c"
        case .hardNegatives: "hard_negatives"
        }
    }

    /// In the order of their numbers.
    public static func < (a: EntropyColumn, b: EntropyColumn) -> Bool { a.rawValue < b.rawValue }
}

/// The figures of one sample, one for each of its supervised tokens in order.
public struct SampleOutputs: Sendable, Equatable {
    /// Index in the probe.
    public var sample: Int
    /// Each column of the record but `top1`, in the order of their numbers.
    public var values: [[Float]]
    /// The most likely tokens; empty in a record without that column.
    public var top1: [UInt32]

    public init(sample: Int, values: [[Float]], top1: [UInt32] = []) {
        self.sample = sample
        self.values = values
        self.top1 = top1
    }

    /// Tokens it has figures for.
    public var count: Int { values.first?.count ?? top1.count }

    /// Equal to the last bit; `==` takes 0 and -0 for the same.
    func isIdentical(to other: SampleOutputs) -> Bool {
        sample == other.sample && top1 == other.top1 && values.count == other.values.count
            && zip(values, other.values).allSatisfy { mine, theirs in
                mine.count == theirs.count && zip(mine, theirs).allSatisfy { $0.bitPattern == $1.bitPattern }
            }
    }
}
