/// What was asked for of a recipe; nil where nothing was.
public struct RecipeChoices: Sendable, Equatable {
    public var mix: Mix?
    public var weakBranch: WeakBranch?
    public var selection: Selection?
    public var coefficients: Curriculum.Coefficients?
    /// As in `Recipe`.
    public var multiplier: Double?
    public var lambda: Double?
    public var labelSmoothing: Double?
    public var rateFactor: Double?
    public var stepFactor: Int?

    public init(
        mix: Mix? = nil, weakBranch: WeakBranch? = nil, selection: Selection? = nil, coefficients: Curriculum.Coefficients? = nil,
        multiplier: Double? = nil, lambda: Double? = nil, labelSmoothing: Double? = nil, rateFactor: Double? = nil,
        stepFactor: Int? = nil
    ) {
        self.mix = mix
        self.weakBranch = weakBranch
        self.selection = selection
        self.coefficients = coefficients
        self.multiplier = multiplier
        self.lambda = lambda
        self.labelSmoothing = labelSmoothing
        self.rateFactor = rateFactor
        self.stepFactor = stepFactor
    }
}

/// What a round trains on and with which loss: a preset, and what was chosen otherwise. It holds together, or it is not made.
public struct Recipe: Sendable, Equatable {
    /// What it began from. The fields below hold, whatever the preset says.
    public let preset: Preset
    /// What the logits are mixed with.
    public let mix: Mix
    /// Nil where no weak model is in the mix.
    public let weakBranch: WeakBranch?
    /// How samples are drawn.
    public let curriculum: Curriculum
    /// Draws in a pass over samples.
    public let multiplier: Double
    /// The strong model's share of the mix, and the scale of a temperature; of one that is matched, that of the mix it is matched
    /// to. Nil where nothing is mixed.
    public let lambda: Double?
    /// The share of the target that is spread over all tokens.
    public let labelSmoothing: Double
    /// What the peak of the learning rate is multiplied by.
    public let rateFactor: Double
    /// What the number of steps is multiplied by, against the arms it is compared with.
    public let stepFactor: Int

    public static let defaultLambda = 0.5
    /// Draws in a pass over samples, at most.
    public static let greatestMultiplier = 1000.0

    /// - Throws: `.usage`, naming the option, for a value that cannot be and for a choice that does not go with the others.
    public init(_ preset: Preset = .wmss, _ choices: RecipeChoices = RecipeChoices()) throws(WeakTrainingError) {
        let fixed = preset.choices
        self.preset = preset
        mix = choices.mix ?? fixed.mix ?? .weak
        let selection = choices.selection ?? fixed.selection ?? .code
        curriculum = Curriculum(selection, choices.coefficients ?? fixed.coefficients ?? Curriculum.Coefficients())
        weakBranch = mix.hasWeak ? choices.weakBranch ?? fixed.weakBranch ?? .joint : nil
        lambda = mix == .alone ? nil : choices.lambda ?? fixed.lambda ?? Recipe.defaultLambda
        multiplier = choices.multiplier ?? fixed.multiplier ?? 1
        labelSmoothing = choices.labelSmoothing ?? fixed.labelSmoothing ?? 0
        rateFactor = choices.rateFactor ?? fixed.rateFactor ?? 1
        stepFactor = choices.stepFactor ?? fixed.stepFactor ?? 1
        try checkNumbers()
        try checkTogether(choices)
    }

    /// Whether the scale is chosen at the first step so that mean 1 - P(y) is that of the mix with the weak model.
    public var isMatched: Bool { preset == .matchedTemperature }

    /// Whether it cannot do without a weak snapshot: in the mix, for its entropies, or to be matched.
    public var needsWeak: Bool { mix.hasWeak || curriculum.selection.readsWeak || isMatched }

    /// Refuses weak snapshots that the recipe has no use for, and too few or too many of them.
    ///
    /// - Parameter weaks: as they were named.
    /// - Throws: `.usage`.
    public func check(weaks: [String]) throws(WeakTrainingError) {
        if weaks.isEmpty, needsWeak {
            let needed = mix.hasWeak ? "--mix \(mix.rawValue)" : isMatched ? "--preset \(preset.rawValue)" : select
            let isSelection = !mix.hasWeak && !isMatched
            throw WeakTrainingError(
                .usage, "\(needed) needs a weak snapshot", hint: isSelection ? "--weak REF, or --select uniform" : "--weak REF")
        }
        if let weak = weaks.first, !needsWeak {
            throw WeakTrainingError(
                .usage, "--weak \(weak): nothing needs it with --mix \(mix.rawValue) and \(select)",
                hint: "leave it out, or --preset wmss")
        }
        if weaks.count > 1, weakBranch != .frozen {
            throw WeakTrainingError(
                .usage, "--weak \(weaks.joined(separator: ",")): several weak snapshots are mixed in, and not trained",
                hint: "--mix weak --weak-branch frozen, or one snapshot")
        }
    }

    private var select: String { "--select \(curriculum.selection.text)" }

    private func checkNumbers() throws(WeakTrainingError) {
        if let lambda {
            guard lambda > 0, lambda < 1 else {
                throw WeakTrainingError(
                    .usage, "--lambda: \(lambda) is not between 0 and 1, both left out", hint: ".42 to .5 has worked best")
            }
        }
        guard labelSmoothing >= 0, labelSmoothing < 1 else {
            throw WeakTrainingError(.usage, "--label-smoothing: \(labelSmoothing) is not from 0 to below 1")
        }
        guard multiplier > 0, multiplier <= Recipe.greatestMultiplier else {
            throw WeakTrainingError(.usage, "--multiplier: \(multiplier) is not above 0 and up to \(Recipe.greatestMultiplier)")
        }
        guard rateFactor > 0, rateFactor.isFinite else {
            throw WeakTrainingError(.usage, "--rate-factor: \(rateFactor) is not above zero")
        }
        guard (1...16).contains(stepFactor) else {
            throw WeakTrainingError(.usage, "--step-factor: \(stepFactor) is not from 1 to 16")
        }
    }

    /// What was chosen must have something to act on: an option without effect would be taken for one that had it.
    private func checkTogether(_ choices: RecipeChoices) throws(WeakTrainingError) {
        if let branch = choices.weakBranch, !mix.hasWeak {
            throw WeakTrainingError(
                .usage, "--weak-branch \(branch.rawValue): no weak model is in --mix \(mix.rawValue)",
                hint: "--mix weak or shuffled")
        }
        if let lambda = choices.lambda, mix == .alone {
            throw WeakTrainingError(
                .usage, "--lambda \(lambda): nothing is mixed by --mix none", hint: "leave it out, or --mix weak")
        }
        if isMatched, mix != .temperature {
            throw WeakTrainingError(
                .usage, "--mix \(mix.rawValue): --preset \(preset.rawValue) is a temperature", hint: "another preset")
        }
        if choices.coefficients != nil, !curriculum.selection.hasCoefficients {
            throw WeakTrainingError(.usage, "--coefficients: \(select) has none", hint: "v1, v2 and code have")
        }
        if multiplier != 1, !curriculum.selection.hasMultiplier {
            throw WeakTrainingError(
                .usage, "--multiplier \(multiplier): a pass of \(select) has the number of samples it has",
                hint: "more passes; or v1, code or a formula")
        }
    }
}
