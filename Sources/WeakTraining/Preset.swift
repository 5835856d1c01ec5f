/// A named arm: what it fixes of a recipe. Whatever it leaves open is as in `wmss`, the default.
public enum Preset: String, Sendable, CaseIterable {
    case sft
    case doubledSFT = "sft-2x"
    case fastSFT = "sft-lr"
    case temperature
    case matchedTemperature = "temperature-matched"
    case wmss
    case mixOnly = "mix-only"
    case selectOnly = "select-only"
    case frozenWeak = "frozen-weak"
    case shuffledWeak = "shuffled-weak"
    case peer
    case labelSmoothing = "label-smoothing"

    /// The table of the arms. Temperatures and the shuffled weak keep the curriculum of `wmss`, with which they are compared.
    var choices: RecipeChoices {
        switch self {
        case .sft: RecipeChoices(mix: .alone, selection: .uniform)
        case .doubledSFT: RecipeChoices(mix: .alone, selection: .uniform, stepFactor: 2)
        case .fastSFT: RecipeChoices(mix: .alone, selection: .uniform, rateFactor: 2)
        case .temperature: RecipeChoices(mix: .temperature, selection: .code)
        case .matchedTemperature: RecipeChoices(mix: .temperature, selection: .code)
        case .wmss: RecipeChoices(mix: .weak, weakBranch: .joint, selection: .code)
        case .mixOnly: RecipeChoices(mix: .weak, weakBranch: .joint, selection: .uniform)
        case .selectOnly: RecipeChoices(mix: .alone, selection: .code)
        case .frozenWeak: RecipeChoices(mix: .weak, weakBranch: .frozen, selection: .code)
        case .shuffledWeak: RecipeChoices(mix: .shuffled, weakBranch: .joint, selection: .code)
        case .peer: RecipeChoices(mix: .weak, weakBranch: .joint, selection: .code)
        case .labelSmoothing: RecipeChoices(mix: .alone, selection: .uniform, labelSmoothing: 0.1)
        }
    }

    /// What it separates, or what it is: one line for people.
    public var summary: String {
        switch self {
        case .sft: "plain fine-tuning: more training"
        case .doubledSFT: "twice the steps, the FLOPs of a pair: more compute"
        case .fastSFT: "twice the rate (4 with a rate factor of 4): a higher rate"
        case .temperature: "the scale of a mix alone (--weak is for the curriculum)"
        case .matchedTemperature: "the scale at which mean 1 - P(y) begins as the mix's does"
        case .wmss: "the method: --mix weak --weak-branch joint --select code"
        case .mixOnly: "the mix without the curriculum"
        case .selectOnly: "the curriculum without the mix"
        case .frozenWeak: "the weak branch is not trained"
        case .shuffledWeak: "the weak's logits rotated: knowledge against noise"
        case .peer: "the weak is as strong, of another seed: weakness against ensembling"
        case .labelSmoothing: "another cure for confidence (.1, or --label-smoothing)"
        }
    }

    /// - Throws: `.usage` with the names there are.
    public static func named(_ name: String) throws(WeakTrainingError) -> Preset {
        guard let preset = Preset(rawValue: name) else {
            throw WeakTrainingError(
                .usage, "--preset: \(name) is unknown", hint: "known are \(allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return preset
    }
}
