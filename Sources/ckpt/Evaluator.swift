import CheckpointStore
import LanguageModel

/// Runs the parts of `ckpt eval`.
struct Evaluator {
    var data: EvaluationData
    var calibration: EvaluationData?
    /// Nil: nothing is generated.
    var rule: AnswerRule?
    var maximumNew: Int
    /// Attempts of each sample at a temperature, and its options.
    var attempts: (count: Int, temperature: Double, seed: UInt64)?
    var limits: ScoringLimits

    func evaluate(_ ref: String, _ options: StoreOptions) throws(StoreError) -> ModelEvaluation {
        let runner = try ModelRunner(ref, options)
        let probe = try data.scored(runner, limits)
        let fitted = try calibration?.scored(runner, limits)
        let task = try rule.map { rule throws(StoreError) in try AnswerTask(probe.probe, runner, rule) }
        let prompts = task?.requests.map(\.tokens.count).max() ?? 0
        let needed = max(probe.longest, fitted?.longest ?? 1, prompts)
        let model = try runner.model(longest: runner.positions(needed: needed, wanted: max(needed, prompts + maximumNew)))
        try ModelNotes.print(ref, model, probe, runner.contents.sidecars)
        var memory = model.scoringMemory(limits.options)
        if let task { memory = max(memory, model.generationMemory(task.requests, generation(task))) }
        runner.announce(model, memory: memory)

        var temperature: Double?
        if let fitted {
            temperature = try counting(runner, "fitting", fitted, passes: LanguageModel.fittingPasses) { progress in
                try model.fittedTemperature(fitted.samples, limits.options, isStopped: { Interrupt.isRequested }, progress: progress)
            }
        }
        let summaries = try counting(runner, "scoring", probe, passes: 1) { progress in
            try model.score(
                probe.samples, temperatures: [1] + (temperature.map { [$0] } ?? []), limits.options,
                isStopped: { Interrupt.isRequested }, progress: progress)
        }.map(CalibrationSummary.init)
        var result = ModelEvaluation(
            ref: ref, step: try step(runner, options), count: probe.samples.count, plain: summaries[0], temperature: temperature,
            calibrated: temperature == nil ? nil : summaries[1])
        guard let task else { return result }
        let made = try runner.generate(task.requests, generation(task), model, "generating")
        result.samples = made.enumerated().map { index, made in task.judged(index, made) }
        if let attempts {
            var sampled = generation(task)
            (sampled.temperature, sampled.seed) = (attempts.temperature, attempts.seed)
            let requests = task.requests.flatMap { request in
                (0..<attempts.count).map { GenerationRequest(tokens: request.tokens, sample: request.sample, attempt: $0, name: request.name) }
            }
            let all = try runner.generate(requests, sampled, model, "sampling")
            result.passed = task.requests.indices.count { index in
                (0..<attempts.count).contains { task.judged(index, all[index * attempts.count + $0]).isRight }
            }
        }
        return result
    }

    private func generation(_ task: AnswerTask) -> GenerationOptions {
        GenerationOptions(maximumNew: maximumNew, ends: task.ends, threads: limits.threads)
    }

    private func counting<R>(
        _ runner: ModelRunner, _ what: String, _ probe: ScoredProbe, passes: Int, _ body: ((Int) -> Void) throws -> R
    ) throws(StoreError) -> R {
        let meter = Meter()
        let total = UInt64(passes) * probe.samples.reduce(0) { $0 + UInt64($1.count) }
        var done: UInt64 = 0
        return try runner.running {
            try body { tokens in
                done += UInt64(tokens)
                Console.progress { meter.tokens("\(runner.ref): \(what)", done, total) }
            }
        }
    }

    /// The step of a snapshot: in the run that the user named, else in any.
    private func step(_ runner: ModelRunner, _ options: StoreOptions) throws(StoreError) -> UInt64? {
        guard runner.contents.id != nil, try !options.isOutsideTheStore(runner.ref) else { return nil }
        let steps = try options.open().steps(of: runner.ref)
        let run = runner.ref.prefix { $0 != "@" && $0 != "~" }
        return (steps.last { $0.run == run } ?? steps.last)?.step
    }
}
