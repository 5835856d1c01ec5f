internal import CKernels
internal import CheckpointStore
internal import Dispatch
internal import Synchronization

/// How samples are run.
public struct ScoringOptions: Sendable {
    /// Threads, each with a batch of its own; nil: one for each processor.
    public var threads: Int?
    /// Tokens of a batch, about. A sample that is longer is a batch of its own.
    public var batchTokens = 1024

    public init(threads: Int? = nil) { self.threads = threads }

    var threadCount: Int { min(max(1, threads ?? Int(ck_processor_count())), Int(ck_processor_count())) }
}

extension LanguageModel {
    /// Anonymous memory that `score` takes at most for samples whose longest has `longest` tokens, in bytes: for each thread
    /// the activations of a batch, tiles of logits and a panel of widened weights.
    public func scoringMemory(_ options: ScoringOptions) -> Int {
        options.threadCount * memory(tokens: max(1, options.batchTokens) + longest) + tableMemory
    }

    /// The same of `score(against:)`: both models' passes, and the output rows of the targets.
    func scoringMemory(_ options: ScoringOptions, against weak: LanguageModel) -> Int {
        let rows = 4 * Scorer.tileRows * (architecture.width + weak.architecture.width)
        return scoringMemory(options) + weak.scoringMemory(options) + options.threadCount * rows
    }

    /// Entropy, loss and top-1 of each supervised token of each sample.
    ///
    /// - Parameters:
    ///   - isStopped: asked before each layer of a batch.
    ///   - deliver: called with each batch's results as they come, on any thread, one call at a time: (index of the sample,
    ///     its outputs). What was delivered need not be computed again.
    /// - Throws: `.mismatch` for a token beyond the vocabulary; `.malformed` naming a sample whose logits are no numbers;
    ///   `.interrupted` when stopped.
    /// - Complexity: O(tokens * parameters), over the threads; memory as `scoringMemory` says, whatever the vocabulary.
    public func score(
        _ samples: [ScoringSample], _ options: ScoringOptions = ScoringOptions(), isStopped: @Sendable () -> Bool = { false },
        deliver: ([(sample: Int, outputs: TokenOutputs)]) throws -> Void
    ) throws(LanguageModelError) {
        try Scoring.run(samples, self, contents.name, options, isStopped, deliver: deliver) { () throws(LanguageModelError) in
            let pass = try ForwardPass(contents)
            return { batch, scored, isStopped throws(LanguageModelError) in
                try run(batch, pass, isStopped)
                var outputs = TokenOutputs()
                try Scoring.forEachTile(scored) { range throws(LanguageModelError) in
                    outputs.append(contentsOf: try Scorer.score(scored, range, architecture, pass))
                }
                return outputs
            }
        }
    }

    /// The same, returned in the order of the samples.
    public func score(
        _ samples: [ScoringSample], _ options: ScoringOptions = ScoringOptions()
    ) throws(LanguageModelError) -> [TokenOutputs] {
        var all = [TokenOutputs](repeating: TokenOutputs(), count: samples.count)
        try score(samples, options) { results in
            for (sample, outputs) in results { all[sample] = outputs }
        }
        return all
    }

    /// What this model, as the strong one, and `weak` say about the same tokens.
    ///
    /// - Parameter lambda: the strong model's share in the mixed logits.
    /// - Throws: `.mismatch` when the vocabularies differ in size; else as `score`.
    public func score(
        _ samples: [ScoringSample], against weak: LanguageModel, lambda: Float, _ options: ScoringOptions = ScoringOptions(),
        isStopped: @Sendable () -> Bool = { false }, deliver: ([(sample: Int, outputs: PairOutputs)]) throws -> Void
    ) throws(LanguageModelError) {
        guard weak.vocabularySize == vocabularySize else {
            throw LanguageModelError(
                .mismatch,
                "\(contents.name) has a vocabulary of \(vocabularySize), \(weak.contents.name) one of \(weak.vocabularySize)")
        }
        try Scoring.run(
            samples, self, "\(weak.contents.name) or \(contents.name)", options, isStopped, deliver: deliver
        ) { () throws(LanguageModelError) in
            let pass = try ForwardPass(contents)
            let weakPass = try ForwardPass(weak.contents)
            return { batch, scored, isStopped throws(LanguageModelError) in
                try run(batch, pass, isStopped)
                try weak.run(batch, weakPass, isStopped)
                var outputs = PairOutputs()
                try Scoring.forEachTile(scored) { range throws(LanguageModelError) in
                    outputs.append(
                        contentsOf: try Scorer.score(
                            scored, range, strong: (architecture, pass), weak: (weak.architecture, weakPass), lambda: lambda))
                }
                return outputs
            }
        }
    }
}

/// Results of a batch, to be cut into those of its samples.
protocol SampleOutputsSlicing: Sendable {
    func sliced(_ range: Range<Int>) -> Self
    /// False where a logit was NaN or infinite.
    var isFinite: Bool { get }
}

extension TokenOutputs: SampleOutputsSlicing {
    var isFinite: Bool { entropy.allSatisfy(\.isFinite) && nll.allSatisfy(\.isFinite) }

    func sliced(_ range: Range<Int>) -> TokenOutputs {
        var slice = TokenOutputs()
        slice.entropy = Array(entropy[range])
        slice.nll = Array(nll[range])
        slice.top = Array(top[range])
        return slice
    }
}

extension PairOutputs: SampleOutputsSlicing {
    var isFinite: Bool {
        strong.isFinite && weak.isFinite
            && [strongToWeak, weakToStrong, logMixingConstant].allSatisfy { $0.allSatisfy(\.isFinite) }
    }

    func sliced(_ range: Range<Int>) -> PairOutputs {
        var slice = PairOutputs()
        slice.strong = strong.sliced(range)
        slice.weak = weak.sliced(range)
        slice.strongToWeak = Array(strongToWeak[range])
        slice.weakToStrong = Array(weakToStrong[range])
        slice.logMixingConstant = Array(logMixingConstant[range])
        slice.hardNegatives = Array(hardNegatives[range])
        return slice
    }
}

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

extension ScoringSample {
    /// As errors name it.
    func shown(_ index: Int) -> String { "sample \(name.isEmpty ? "\(index)" : name)" }
}
