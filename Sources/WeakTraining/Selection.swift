/// What decides how often a sample is trained on: `--select`.
public enum Selection: Sendable, Equatable {
    /// Every sample once a pass.
    case uniform
    /// a H_weak + b [-dH]+ + c [dH]+ (arXiv 2602.08222, version 1)
    case v1
    /// a [-dH]+ + b H_strong + c [dH]+, repeats within a pass dropped (version 2)
    case v2
    /// a H_weak / sum + b [-dH]+ / sum + c [dH]+ / sum, each sum over all samples (the authors' program)
    case code
    /// Weights of one's own.
    case formula(Formula)

    /// `uniform`, `v1`, `v2`, `code` or a formula.
    ///
    /// - Throws: `.usage` where a formula cannot be read.
    public init(_ text: String) throws(WeakTrainingError) {
        switch text {
        case "uniform": self = .uniform
        case "v1": self = .v1
        case "v2": self = .v2
        case "code": self = .code
        default:
            do throws(WeakTrainingError) {
                self = .formula(try Formula(text))
            } catch {
                let names = "uniform, v1, v2 and code are names"
                let hint = error.hint.map { "\(names); in a formula \($0)" }
                throw WeakTrainingError(error.code, error.reason, hint: hint ?? names)
            }
        }
    }

    /// As it is written after `--select`.
    public var text: String {
        switch self {
        case .uniform: "uniform"
        case .v1: "v1"
        case .v2: "v2"
        case .code: "code"
        case .formula(let formula): formula.text
        }
    }

    /// Whether it needs the entropies of a weak snapshot.
    public var readsWeak: Bool {
        switch self {
        case .uniform: false
        case .v1, .v2, .code: true
        case .formula(let formula): formula.reads(.weak)
        }
    }

    /// Whether it needs the entropies of the strong snapshot.
    public var readsStrong: Bool {
        switch self {
        case .uniform: false
        case .v1, .v2, .code: true
        case .formula(let formula): formula.reads(.strong)
        }
    }

    /// Whether a, b and c are in its weights.
    public var hasCoefficients: Bool { self == .v1 || self == .v2 || self == .code }

    /// Whether a pass may draw more or fewer samples than there are.
    public var hasMultiplier: Bool { self != .uniform && self != .v2 }
}
