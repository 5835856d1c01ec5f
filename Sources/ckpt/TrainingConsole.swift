import CheckpointReports
import CheckpointStore
import LanguageModel
import WeakTraining

/// What a training shows while it runs: a line that moves, and one for each snapshot; at the end a summary.
final class TrainingConsole {
    private let settings: TrainingSettings
    private let isJSON: Bool
    /// A snapshot as people name it.
    private let name: (ContentID) -> String
    private let start = Clock.seconds
    private var tokens = 0
    private var trainedSeconds = 0.0
    private var stepsHere = 0
    private var last: TrainedStep?
    /// Exponential mean of the loss, which one batch alone makes jump.
    private var loss: Double?
    private var savedRows: [SavedSnapshot] = []

    init(_ settings: TrainingSettings, isJSON: Bool, name: @escaping (ContentID) -> String) {
        self.settings = settings
        self.isJSON = isJSON
        self.name = name
    }

    func resumes(from step: Int) {
        if step > 0 { note("run \(settings.run): going on after step \(step)") }
    }

    func began(_ round: BegunRound) {
        let weak = round.weaks.map(name).joined(separator: ", ")
        let share = round.share.map { ", logits times \(Format.fixed($0, 4))" } ?? ""
        note(
            "round \(round.round + 1) of \(settings.plan.rounds): \(round.weights) weights, \(memory(round.weights)), strong \(name(round.strong))"
                + (weak.isEmpty ? "" : ", weak \(weak)")
                + ", \(Format.count(round.samples, "sample")), \(Format.count(round.steps, "step"))\(share)")
    }

    /// Weights, gradients and two moments in single precision, of each model that is trained.
    private func memory(_ weights: Int) -> String {
        let models: UInt64 = settings.plan.recipe.weakBranch == .joint ? 2 : 1
        return "\(Format.bytes(models * 16 * UInt64(weights))) of memory and what a micro-batch takes"
    }

    func stepped(_ step: TrainedStep) {
        last = step
        stepsHere += 1
        tokens += step.tokens
        trainedSeconds += step.seconds
        let mean = step.figures.loss / Double(max(1, step.figures.tokens))
        loss = loss.map { 0.9 * $0 + 0.1 * mean } ?? mean
        Console.progress { line(step) }
    }

    private func line(_ step: TrainedStep) -> String {
        let count = Double(max(1, step.figures.tokens))
        let left = (Clock.seconds - start) / Double(stepsHere) * Double(step.stepCount - step.step)
        var parts = [
            "step \(step.step) of \(step.stepCount)", "loss \(Format.fixed(loss ?? 0, 4))", "H \(Format.fixed(step.figures.entropy / count, 3))",
        ]
        if settings.plan.recipe.mix.hasWeak {
            parts.append("weak H \(Format.fixed(step.figures.weakEntropy / count, 3))")
            parts.append("ln C \(Format.fixed(step.figures.logMixingConstant / count, 3))")
        }
        parts.append("\(Int(Double(tokens) / max(trainedSeconds, 1e-9))) tokens/s")
        parts.append("ETA \(Format.duration(left))")
        return parts.joined(separator: "  ")
    }

    func saved(_ saved: SavedSnapshot) {
        savedRows.append(saved)
        Console.endProgress()
        let metrics = saved.metrics.map { ", \($0.name) \(Format.fixed($0.value, 4))" }.joined()
        let shown = loss.map { ", loss \(Format.fixed($0, 4))" } ?? ""
        note("\(saved.ref)  \(saved.id.short)  packed \(Format.bytes(saved.packedBytes)) of \(Format.bytes(saved.rawBytes))\(shown)\(metrics)")
    }

    private func note(_ text: String) {
        Console.endProgress()
        Console.error(Console.printable("ckpt: \(text)"))
    }

    func finished(_ history: [HistoryEntry]) {
        let head = history.last
        guard !isJSON else {
            Console.print(json(history).text)
            return
        }
        let done = stepsHere == 0 ? "nothing was left to do" : "\(Format.count(stepsHere, "step")) in \(Format.duration(Clock.seconds - start)), \(Int(Double(tokens) / max(trainedSeconds, 1e-9))) tokens/s"
        Console.print("run \(settings.run): \(Format.count(history.count, "snapshot")), \(done)")
        if let head { Console.print("head \(head.run)@\(head.step)  \(head.id.short)") }
    }

    private func json(_ history: [HistoryEntry]) -> JSONOutput {
        let count = Double(max(1, last?.figures.tokens ?? 1))
        return [
            "run": .string(settings.run), "steps": .int(stepsHere), "tokens": .int(tokens), "seconds": .double(Clock.seconds - start),
            "tokens_per_second": .double(Double(tokens) / max(trainedSeconds, 1e-9)),
            "loss": last.map { .double($0.figures.loss / count) } ?? .null,
            "snapshots": .array(
                history.map { entry in
                    let saved = savedRows.last { $0.step == Int(entry.step) }
                    var members: [(String, JSONOutput)] = [
                        ("ref", .string("\(entry.run)@\(entry.step)")), ("snapshot", .string("\(entry.id)")), ("step", .unsigned(entry.step)),
                        ("raw_bytes", .unsigned(entry.rawBytes)),
                    ]
                    if let saved {
                        members.append(("packed_bytes", .unsigned(saved.packedBytes)))
                        members += saved.metrics.map { ("eval_" + $0.name, .double($0.value)) }
                    }
                    return .object(members)
                }),
        ]
    }
}
