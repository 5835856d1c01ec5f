import Testing
import WeakTraining

@Suite struct RecipeTests {
    @Test(arguments: [
        ("sft", .alone, nil, .uniform, false), ("sft-2x", .alone, nil, .uniform, false), ("sft-lr", .alone, nil, .uniform, false),
        ("temperature", .temperature, nil, .code, true), ("temperature-matched", .temperature, nil, .code, true),
        ("wmss", .weak, .joint, .code, true), ("mix-only", .weak, .joint, .uniform, true), ("select-only", .alone, nil, .code, true),
        ("frozen-weak", .weak, .frozen, .code, true), ("shuffled-weak", .shuffled, .joint, .code, true), ("peer", .weak, .joint, .code, true),
        ("label-smoothing", .alone, nil, .uniform, false),
    ] as [(String, Mix, WeakBranch?, Selection, Bool)])
    func `presets are the arms of the method`(
        _ name: String, _ mix: Mix, _ branch: WeakBranch?, _ selection: Selection, _ needsWeak: Bool
    ) throws {
        let recipe = try Recipe(Preset.named(name))
        #expect(recipe.mix == mix && recipe.weakBranch == branch && recipe.curriculum == Curriculum(selection))
        #expect(recipe.needsWeak == needsWeak && recipe.lambda == (mix == .alone ? nil : 0.5) && recipe.multiplier == 1)
        #expect(recipe.stepFactor == (name == "sft-2x" ? 2 : 1) && recipe.rateFactor == (name == "sft-lr" ? 2 : 1))
        #expect(recipe.labelSmoothing == (name == "label-smoothing" ? 0.1 : 0) && recipe.isMatched == (name == "temperature-matched"))
        if needsWeak {
            try recipe.check(weaks: ["sft@100"])
            #expect(throws: WeakTrainingError.self) { try recipe.check(weaks: []) }
        } else {
            try recipe.check(weaks: [])
            #expect(throws: WeakTrainingError.self) { try recipe.check(weaks: ["sft@100"]) }
        }
    }

    @Test func `every preset is known by its name`() throws {
        for preset in Preset.allCases { #expect(try Preset.named(preset.rawValue) == preset && !preset.summary.isEmpty) }
        #expect(throws: WeakTrainingError.self) { try Preset.named("wsms") }
    }

    @Test func `axes override a preset`() throws {
        let recipe = try Recipe(.frozenWeak, RecipeChoices(mix: .shuffled, selection: .v1, lambda: 0.42))
        #expect(recipe.mix == .shuffled && recipe.weakBranch == .frozen && recipe.curriculum.selection == .v1 && recipe.lambda == 0.42)
        // What the preset fixes for a mix that is no longer there goes with it.
        let alone = try Recipe(.wmss, RecipeChoices(mix: .alone))
        #expect(alone.weakBranch == nil && alone.lambda == nil && alone.needsWeak)
        #expect(try Recipe(.fastSFT, RecipeChoices(rateFactor: 4)).rateFactor == 4)
        #expect(try Recipe(.labelSmoothing, RecipeChoices(labelSmoothing: 0.2)).labelSmoothing == 0.2)
        #expect(try Recipe(.sft, RecipeChoices(selection: Selection("H_strong"))).needsWeak == false)
    }

    static let coefficients = Curriculum.Coefficients()

    @Test(arguments: [
        (.wmss, .init(lambda: 0), "--lambda"), (.wmss, .init(lambda: 1), "--lambda"), (.wmss, .init(lambda: .nan), "--lambda"),
        (.sft, .init(lambda: 0.5), "--lambda 0.5: nothing is mixed"), (.sft, .init(weakBranch: .frozen), "--weak-branch frozen"),
        (.temperature, .init(weakBranch: .joint), "--weak-branch joint"), (.wmss, .init(mix: .alone, weakBranch: .frozen), "--weak-branch"),
        (.matchedTemperature, .init(mix: .weak), "--mix weak: --preset temperature-matched"),
        (.sft, .init(coefficients: coefficients), "--coefficients: --select uniform"),
        (.sft, .init(multiplier: 2), "--multiplier 2.0: a pass of --select uniform"), (.wmss, .init(selection: .v2, multiplier: 2), "--multiplier"),
        (.wmss, .init(multiplier: 0), "--multiplier"), (.wmss, .init(multiplier: .infinity), "--multiplier"),
        (.wmss, .init(multiplier: .nan), "--multiplier"), (.wmss, .init(labelSmoothing: 1), "--label-smoothing"),
        (.wmss, .init(labelSmoothing: -0.1), "--label-smoothing"), (.wmss, .init(rateFactor: 0), "--rate-factor"),
        (.wmss, .init(stepFactor: 0), "--step-factor"), (.wmss, .init(stepFactor: 17), "--step-factor"),
    ] as [(Preset, RecipeChoices, String)])
    func `what cannot be, or acts on nothing, is refused`(_ preset: Preset, _ choices: RecipeChoices, _ said: String) {
        let error = #expect(throws: WeakTrainingError.self) { try Recipe(preset, choices) }
        #expect(error?.code == .usage && error?.reason.hasPrefix(said) == true, "\(error?.description ?? "")")
    }

    @Test func `several weaks are mixed in and not trained`() throws {
        try Recipe(.frozenWeak).check(weaks: ["a", "b"])
        for preset in [Preset.wmss, .selectOnly, .temperature, .shuffledWeak] {
            let error = #expect(throws: WeakTrainingError.self) { try Recipe(preset).check(weaks: ["a", "b"]) }
            #expect(error?.reason.hasPrefix("--weak a,b") == true)
        }
    }
}
