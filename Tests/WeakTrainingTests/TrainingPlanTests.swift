import Foundation
import Testing
import WeakTraining

@Suite struct TrainingPlanTests {
    static func plans() throws -> [TrainingPlan] {
        var plans = try Preset.allCases.map { try TrainingPlan(Recipe($0), learningRate: LearningRate()) }
        let formula = try Selection("[-dH]+ / sum([-dH]+)")
        plans.append(
            try TrainingPlan(
                Recipe(.frozenWeak, RecipeChoices(selection: formula, multiplier: 1.5, lambda: 0.42, labelSmoothing: 0.05)),
                learningRate: LearningRate(peak: 3e-4, warmUp: .steps(20), decay: .constant), seed: .max, rounds: 3, length: .steps(700),
                batchSize: 16, maximumLength: 256, clip: 0.5, weightDecay: 0.01))
        let coefficients = try Curriculum.Coefficients(a: 0.2, b: 0.7, c: 0.1)
        plans.append(
            try TrainingPlan(
                Recipe(.shuffledWeak, RecipeChoices(selection: .v1, coefficients: coefficients)), learningRate: LearningRate(), seed: 1 << 60))
        return plans
    }

    static func read(_ text: String) throws(WeakTrainingError) -> TrainingPlan { try TrainingPlan(json: Array(text.utf8), path: "plan.json") }

    @Test func `a plan is read back as it was`() throws {
        for plan in try TrainingPlanTests.plans() {
            #expect(try TrainingPlanTests.read(plan.json) == plan)
            #expect(!plan.json.contains("\n"))
        }
    }

    @Test func `the keys are these`() throws {
        #expect(
            try TrainingPlan(Recipe(), learningRate: LearningRate(), seed: 5).json == """
                {"preset":"wmss","mix":"weak","weak_branch":"joint","select":"code","coefficients":[0.1,0.8,0.1],"multiplier":1.0,\
                "lambda":0.5,"label_smoothing":0.0,"rate_factor":1.0,"step_factor":1,"seed":5,"rounds":1,"passes":1,"batch_size":512,\
                "max_length":4096,"learning_rate":1e-05,"warm_up_share":0.1,"decay":"cosine","clip":1.0,"weight_decay":0.0}
                """)
    }

    @Test func `no key may be missing, unknown or there twice`() throws {
        for plan in try TrainingPlanTests.plans() {
            let members = plan.json.dropFirst().dropLast().split(separator: ",\"").map { $0.hasPrefix("\"") ? String($0) : "\"" + $0 }
            for left in members.indices {
                let fewer = "{" + members.indices.filter { $0 != left }.map { members[$0] }.joined(separator: ",") + "}"
                let error = #expect(throws: WeakTrainingError.self) { try TrainingPlanTests.read(fewer) }
                #expect(error?.code == .malformed && error?.reason.hasPrefix("plan.json") == true)
                let twice = #expect(throws: WeakTrainingError.self) {
                    try TrainingPlanTests.read("{" + (members + [members[left]]).joined(separator: ",") + "}")
                }
                #expect(twice?.reason.contains("is there twice") == true)
            }
        }
        let plan = try TrainingPlanTests.plans()[0].json
        let unknown = #expect(throws: WeakTrainingError.self) { try TrainingPlanTests.read(plan.dropLast() + ",\"ema\\n\":0.9}") }
        #expect(unknown?.reason == "plan.json: \"ema\\n\" is unknown")
    }

    @Test(arguments: [
        ("\"seed\":0", "\"seed\":-1", "seed is not a whole number"), ("\"lambda\":0.5", "\"lambda\":1.5", "--lambda: 1.5"),
        ("\"mix\":\"weak\"", "\"mix\":\"ema\"", "mix is not one of none, weak"), ("\"select\":\"code\"", "\"select\":\"dH +\"", "--select: column 5"),
        ("[0.1,0.8,0.1]", "[0.1,0.8]", "coefficients is not three numbers"), ("[0.1,0.8,0.1]", "[0.1,0.8,\"c\",0]", "coefficients is not"),
        ("[0.1,0.8,0.1]", "[0,0,0]", "--coefficients"), ("\"passes\":1", "\"passes\":0", "--epochs: 0"), ("\"passes\":1", "\"passes\":9999999", "--epochs: 9999999"),
        ("\"passes\":1", "\"passes\":1e3", "passes is not a whole number"), ("\"batch_size\":512", "\"batch_size\":9999999999", "--batch: "),
        ("\"clip\":1.0", "\"clip\":null", "clip is not a number"), ("\"decay\":\"cosine\"", "\"decay\":\"linear\"", "decay is not one of"),
        ("{", "[", "invalid JSON"), ("\"weight_decay\":0.0", "\"weight_decay\":-1", "--weight-decay"),
        ("\"max_length\":4096", "\"max_length\":1", "--max-length"), ("\"learning_rate\":1e-05", "\"learning_rate\":0", "--learning-rate"),
        ("\"warm_up_share\":0.1", "\"warm_up_share\":2", "--warm-up"),
    ]) func `values are checked as options are`(_ there: String, _ instead: String, _ said: String) throws {
        let plan = try TrainingPlan(Recipe(), learningRate: LearningRate()).json
        #expect(plan.contains(there))
        let at = try #require(plan.firstRange(of: there))
        let error = #expect(throws: WeakTrainingError.self) { try TrainingPlanTests.read(plan.replacingCharacters(in: at, with: instead)) }
        #expect(error?.code == .malformed && error?.reason.contains(said) == true, "\(error?.description ?? "")")
        #expect(error?.reason.contains("plan.json") == true)
    }

    @Test func `steps and rates follow the recipe's factors`() throws {
        let weights = [Double](repeating: 1, count: 100)
        var order = BatchOrder(.uniform, weights: weights, seed: 1, round: 0, batchSize: 32)
        let plain = try TrainingPlan(Recipe(.sft), learningRate: LearningRate(), length: .passes(3), batchSize: 32)
        let double = try TrainingPlan(Recipe(.doubledSFT), learningRate: LearningRate(), length: .passes(3), batchSize: 32)
        let counted = try TrainingPlan(Recipe(.doubledSFT), learningRate: LearningRate(), length: .steps(7), batchSize: 32)
        #expect(plain.steps(&order) == 12 && double.steps(&order) == 24 && counted.steps(&order) == 14)
        let fast = try TrainingPlan(Recipe(.fastSFT), learningRate: LearningRate())
        #expect(fast.rate(at: 50, of: 100) == 2 * plain.rate(at: 50, of: 100))
    }
}
