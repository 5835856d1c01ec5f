internal import CheckpointStore
internal import LanguageModel
internal import TensorFormats

/// Which of the two models that are trained together a snapshot is of.
enum TrainedBranch: String {
    case strong, weak
}

/// What a trained snapshot says of itself, in a file beside its weights: how it was made, of what, and how good it is. The same
/// training writes the same note: no times are in it.
struct TrainingNote {
    static let fileName = "ckpt_training.json"

    var settings: TrainingSettings
    var branch: TrainedBranch
    var step: Int
    var round: Int
    /// The snapshots its round began with.
    var strong: String
    var weaks: [String]
    var share: Double?
    var metrics: [(name: String, value: Double)]

    var json: JSONValue {
        .members([
            "program": .string("ckpt \(CkptVersion.current)"),
            "branch": .string(branch.rawValue),
            "step": .unsigned(UInt64(step)), "round": .unsigned(UInt64(round)),
            "round_strong": strong.isEmpty ? nil : .string(strong), "round_weak": .array(weaks.map { .string($0) }),
            "share": share.map { .double($0) },
            "metrics": .object(metrics.map { .init(key: $0.name, value: .double($0.value)) }),
            "settings": settings.nameless,
        ])
    }
}

extension TrainedStep {
    /// A line of the log.
    var json: JSONValue {
        let count = Double(max(1, figures.tokens))
        let hasWeak = figures.weakEntropy != 0 || figures.logMixingConstant != 0
        func mean(_ sum: Double) -> JSONValue { .double(sum / count) }
        return .members([
            "step": .unsigned(UInt64(step)), "round": .unsigned(UInt64(round)), "pass": .unsigned(UInt64(pass)),
            "loss": mean(figures.loss), "nll": mean(figures.nll), "entropy": mean(figures.entropy), "p": mean(figures.probability),
            "weak_entropy": hasWeak ? mean(figures.weakEntropy) : nil, "ln_c": hasWeak ? mean(figures.logMixingConstant) : nil,
            "rate": .double(rate), "gradient_norm": .double(gradientNorms[0]),
            "weak_gradient_norm": gradientNorms.count > 1 ? .double(gradientNorms[1]) : nil, "tokens": .unsigned(UInt64(tokens)),
            "supervised_tokens": .unsigned(UInt64(figures.tokens)), "seconds": .double(seconds),
        ])
    }
}

extension SavedSnapshot {
    /// A line of the log.
    var json: JSONValue {
        .object(
            [
                .init(key: "step", value: .unsigned(UInt64(step))), .init(key: "saved", value: .string(ref)),
                .init(key: "snapshot", value: .string("\(id)")),
            ] + metrics.map { .init(key: "eval_" + $0.name, value: .double($0.value)) })
    }
}
