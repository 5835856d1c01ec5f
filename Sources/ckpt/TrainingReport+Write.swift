import CheckpointStore
import TensorFormats
import WeakTraining

extension TrainingReport {
    /// The page of a training as it stands.
    static func write(_ trainer: Trainer, _ settings: TrainingSettings, to path: String) throws(StoreError) {
        let plan = settings.plan
        var facts = [("run", settings.run), ("preset", plan.recipe.preset.rawValue), ("mix", plan.recipe.mix.rawValue)]
        if let branch = plan.recipe.weakBranch { facts.append(("weak branch", branch.rawValue)) }
        facts.append(("select", plan.recipe.curriculum.selection.text))
        if let lambda = plan.recipe.lambda { facts.append(("lambda", "\(lambda)")) }
        switch settings.start {
        case .snapshot(let id): facts.append(("strong", id.short))
        case .random: facts.append(("strong", "random weights"))
        }
        if !settings.weaks.isEmpty { facts.append(("weak", settings.weaks.map(\.short).joined(separator: ", "))) }
        facts += [
            ("data", settings.data.short), ("batch", "\(plan.batchSize)"), ("learning rate", "\(plan.learningRate.peak)"),
            ("seed", "\(plan.seed)"), ("rounds", "\(plan.rounds)"),
        ]
        let report = TrainingReport(title: "ckpt train: \(settings.run)", facts: facts, log: trainer.logLines)
        try DurableFile.write(Array(report.html.utf8), to: path)
    }
}
