internal import LanguageModel
internal import TensorFormats

extension TrainedStep {
    /// A line of the log.
    var json: JSONValue {
        let count = Double(max(1, figures.tokens))
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
