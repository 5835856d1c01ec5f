internal import CheckpointStore
internal import Dispatch
internal import Synchronization

/// Batches handed to threads, their results handed back sample by sample.
enum Scoring {
    typealias Lane<Outputs> = (Batch, ScoredRows, _ isStopped: () -> Bool) throws(LanguageModelError) -> Outputs

    static func forEachTile(
        _ scored: ScoredRows, _ body: (Range<Int>) throws(LanguageModelError) -> Void
    ) throws(LanguageModelError) {
        var start = 0
        while start < scored.rows.count {
            let end = min(start + Scorer.tileRows, scored.rows.count)
            try body(start..<end)
            start = end
        }
    }

    private struct State {
        var next = 0
        var failure: LanguageModelError?
    }

    static func run<Outputs: SampleOutputsSlicing>(
        _ samples: [ScoringSample], _ model: LanguageModel, _ names: String, _ options: ScoringOptions,
        _ isStopped: @Sendable () -> Bool, deliver: ([(sample: Int, outputs: Outputs)]) throws -> Void,
        makeLane: () throws(LanguageModelError) -> Lane<Outputs>
    ) throws(LanguageModelError) {
        try model.check(samples)
        let batches = ScoringBatch.pack(samples, budget: options.batchTokens, threads: options.threadCount)
        let state = Mutex(State())
        let delivery = Mutex(())
        // The closures are used only until `concurrentPerform` returns; `deliver` under a lock.
        nonisolated(unsafe) let deliver = deliver
        nonisolated(unsafe) let makeLane = makeLane
        DispatchQueue.concurrentPerform(iterations: min(options.threadCount, max(1, batches.count))) { _ in
            do {
                let lane = try makeLane()
                while let batch = state.withLock({ state -> ScoringBatch? in
                    guard state.failure == nil, state.next < batches.count else { return nil }
                    state.next += 1
                    return batches[state.next - 1]
                }) {
                    let (tokens, scored) = batch.laidOut(samples)
                    let outputs = try lane(tokens, scored, isStopped)
                    var start = 0
                    let results = batch.samples.map { index in
                        let range = start..<start + samples[index].count
                        start = range.upperBound
                        return (sample: index, outputs: outputs.sliced(range))
                    }
                    try delivery.withLock { _ in try deliver(results.filter { $0.outputs.isFinite }) }
                    if let broken = results.first(where: { !$0.outputs.isFinite }) {
                        throw LanguageModelError(
                            .malformed, "\(names): \(samples[broken.sample].shown(broken.sample)): its logits are no numbers",
                            hint: "a weight is NaN or infinite, or config.json makes them so")
                    }
                }
            } catch {
                let failure = error as? LanguageModelError ?? LanguageModelError(.failed, "\(error)")
                state.withLock { if $0.failure == nil { $0.failure = failure } }
            }
        }
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }
}
