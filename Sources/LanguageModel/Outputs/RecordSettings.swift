public import CheckpointStore

/// The settings that records of ours are kept under, and the columns they have.
public enum RecordSettings {
    /// Sums are in single precision whatever the weights' dtype.
    private static let precision = "f32"

    /// Of one snapshot by itself.
    public static let columns: Set<EntropyColumn> = [.entropy, .nll, .top1]
    /// Of a strong snapshot against a weak one.
    public static let pairColumns: Set<EntropyColumn> = [.klStrongWeak, .klWeakStrong, .lnC, .hardNegatives]

    /// Of one snapshot by itself.
    static func own(_ probe: ScoredProbe) -> [String: String] {
        var settings = ["precision": precision]
        if let length = probe.cutLength { settings["max_length"] = "\(length)" }
        return settings
    }

    /// Of a snapshot, the strong one, against `weak`.
    static func pair(_ probe: ScoredProbe, weak: ContentID, lambda: Float) -> [String: String] {
        own(probe).merging(["weak": "\(weak)", "lambda": text(lambda)]) { $1 }
    }

    /// The shortest decimal number that is this one: texts of one number are one key.
    private static func text(_ lambda: Float) -> String { "\(lambda)" }

    /// Settings that were written elsewhere, with one text for each value.
    ///
    /// - Parameters:
    ///   - probe: a `max_length` that cuts none of its samples is left out.
    ///   - snapshot: the id of the snapshot that the text names.
    /// - Throws: `.badInput` for a lambda that is none, and what `snapshot` throws.
    public static func canonical(
        _ settings: [String: String], on probe: Probe, snapshot: (String) throws(StoreError) -> ContentID
    ) throws(StoreError) -> [String: String] {
        var settings = settings
        if let text = settings["max_length"] {
            guard let length = Int(text), length > 1 else {
                throw StoreError(.badInput, "setting \"max_length\": \(text) is no number of tokens")
            }
            settings["max_length"] = probe.samples.allSatisfy { $0.tokens.count <= length } ? nil : "\(length)"
        }
        if let weak = settings["weak"] { settings["weak"] = "\(try snapshot(weak))" }
        if let lambda = settings["lambda"] {
            guard let value = Float(lambda), value > 0, value < 1 else {
                throw StoreError(.badInput, "setting \"lambda\": \(lambda) is not within 0 and 1")
            }
            settings["lambda"] = text(value)
        }
        return settings
    }

    /// The columns that a record of ours under `settings` has; nil when it would not be one of ours.
    public static func columns(under settings: [String: String]) -> Set<EntropyColumn>? {
        guard settings["precision"] == precision else { return nil }
        switch Set(settings.keys).subtracting(["precision", "max_length"]) {
        case []: return columns
        case ["weak", "lambda"]: return pairColumns
        default: return nil
        }
    }
}
