/// What the strong model's logits are mixed with in the loss: `--mix`.
public enum Mix: String, Sendable, CaseIterable {
    /// Nothing: plain fine-tuning.
    case alone = "none"
    /// lambda z_strong + (1 - lambda) z_weak
    case weak
    /// lambda z_strong: the scale of a mix, without a weak model.
    case temperature
    /// As `weak`, with the weak model's logits rotated: as unsure, without its knowledge.
    case shuffled

    /// Whether a weak model runs beside the strong one.
    public var hasWeak: Bool { self == .weak || self == .shuffled }
}

/// Whether a weak model in the mix is trained: `--weak-branch`.
public enum WeakBranch: String, Sendable, CaseIterable {
    case joint, frozen
}
