internal import CheckpointStore
internal import Dispatch
internal import Synchronization

extension LanguageModel {
    /// Goes on with prompts, token by token.
    ///
    /// Many sequences go on side by side; what becomes of one depends neither on the others nor on the number of threads. A
    /// drawn token takes one uniform number of `Philox(seed, .generate, round: the prompt's index, pass: attempt)`.
    ///
    /// - Parameters:
    ///   - prompts: each at least one token; with the new ones they go up to the length that the model was opened for.
    ///   - isStopped: asked before each layer.
    ///   - grew: called with each new token as it comes, on any thread, one call at a time: (index of the prompt, token).
    /// - Returns: in the order of the prompts.
    /// - Throws: `.mismatch` naming a prompt that is empty, too long or has tokens beyond the vocabulary; `.malformed` when logits
    ///   are no numbers; `.interrupted`.
    /// - Complexity: O((prompt + new tokens) * parameters) a prompt; memory for keys and values of `sequences` sequences a thread.
    public func generate(
        _ prompts: [[Int32]], _ options: GenerationOptions, isStopped: @Sendable () -> Bool = { false },
        grew: (_ prompt: Int, _ token: Int32) -> Void = { _, _ in }
    ) throws(LanguageModelError) -> [GeneratedTokens] {
        for (index, prompt) in prompts.enumerated() {
            guard !prompt.isEmpty else { throw LanguageModelError(.mismatch, "prompt \(index) has no token") }
            guard prompt.count <= longest else {
                throw LanguageModelError(.mismatch, "prompt \(index): \(prompt.count) tokens; the model was opened for \(longest)")
            }
            if let token = prompt.first(where: { $0 < 0 || Int($0) >= vocabularySize }) {
                throw LanguageModelError(.mismatch, "prompt \(index): token \(token) in a vocabulary of \(vocabularySize)")
            }
        }
        let state = Mutex(GenerationState(prompts.count))
        // Used until `concurrentPerform` returns, under the lock.
        nonisolated(unsafe) let grew = grew
        let threads = max(1, min(ScoringOptions(threads: options.threads).threadCount, prompts.count))
        DispatchQueue.concurrentPerform(iterations: threads) { _ in
            do {
                let lane = try GenerationLane(self, options)
                try lane.run(prompts, state, isStopped, grew)
            } catch {
                let failure = error as? LanguageModelError ?? LanguageModelError(.failed, "\(error)")
                state.withLock { if $0.failure == nil { $0.failure = failure } }
            }
        }
        return try state.withLock { state throws(LanguageModelError) in
            if let failure = state.failure { throw failure }
            return state.generated
        }
    }
}

/// What the threads share.
struct GenerationState: Sendable {
    var next = 0
    var failure: LanguageModelError?
    var generated: [GeneratedTokens]

    init(_ count: Int) { generated = [GeneratedTokens](repeating: GeneratedTokens(), count: count) }
}

/// One thread's sequences.
private final class GenerationLane {
    private struct Sequence {
        var prompt: Int
        var kept: KeptSequence
        var random: Philox
        /// Tokens to run next: the prompt, then the one that was chosen.
        var pending: [Int32]
        var length: Int
        var made = GeneratedTokens()
    }

    /// Tokens of prompts that are run together.
    private static let promptTokens = 1024

    private let model: LanguageModel
    private let options: GenerationOptions
    private let pass: ForwardPass
    private let choice: TokenChoice
    private var free: [KeptSequence] = []

    init(_ model: LanguageModel, _ options: GenerationOptions) throws(LanguageModelError) {
        self.model = model
        self.options = options
        pass = try ForwardPass(model.contents)
        choice = TokenChoice(options: options)
    }

    func run(
        _ prompts: [[Int32]], _ state: borrowing Mutex<GenerationState>, _ isStopped: () -> Bool, _ grew: (Int, Int32) -> Void
    ) throws(LanguageModelError) {
        var active: [Sequence] = []
        while true {
            var started: [Sequence] = []
            var tokens = 0
            while active.count + started.count < options.sequences, tokens < GenerationLane.promptTokens,
                let prompt = state.withLock({ state -> Int? in
                    guard state.failure == nil, state.next < prompts.count else { return nil }
                    state.next += 1
                    return state.next - 1
                })
            {
                started.append(start(prompt, prompts[prompt]))
                tokens += prompts[prompt].count
            }
            // Prompts go through by themselves: then all sequences are at their next token.
            if !started.isEmpty {
                try step(&started, isStopped)
                active += started
            } else if !active.isEmpty {
                try step(&active, isStopped)
            } else {
                return
            }
            let isFailed = state.withLock { state in
                for sequence in started.isEmpty ? active : started { grew(sequence.prompt, sequence.made.tokens.last!) }
                for sequence in active where isDone(sequence) { state.generated[sequence.prompt] = sequence.made }
                return state.failure != nil
            }
            if isFailed { return }
            active.removeAll { sequence in
                guard isDone(sequence) else { return false }
                sequence.kept.clear()
                free.append(sequence.kept)
                return true
            }
        }
    }

    private func isDone(_ sequence: Sequence) -> Bool { sequence.pending.isEmpty }

    private func start(_ index: Int, _ prompt: [Int32]) -> Sequence {
        Sequence(
            prompt: index, kept: free.popLast() ?? KeptSequence(layerCount: model.layerCount, capacity: model.longest),
            random: Philox(seed: options.seed, .generate, round: UInt32(truncatingIfNeeded: index), pass: options.attempt),
            pending: prompt, length: prompt.count)
    }

    /// Runs what is pending of each sequence and chooses its next token.
    private func step(_ sequences: inout [Sequence], _ isStopped: () -> Bool) throws(LanguageModelError) {
        let architecture = model.architecture
        var batch = Batch()
        for sequence in sequences { batch.append(sequence.pending, from: sequence.kept.count) }
        pass.kept = sequences.map(\.kept)
        try model.run(batch, pass, isStopped)
        for (sequence, rows) in zip(sequences, batch.sequences) { sequence.kept.advance(rows.count) }
        let vocabulary = model.vocabularySize
        // Few rows at a time: logits of a large vocabulary are long.
        let tileRows = max(1, min(sequences.count, (1 << 22) / vocabulary))
        for first in stride(from: 0, to: sequences.count, by: tileRows) {
            let tile = first..<min(first + tileRows, sequences.count)
            let hidden = pass.scratch(5, tile.count, architecture.width)
            for (index, sequence) in tile.enumerated() {
                hidden.row(index).update(from: pass.stream.row(batch.sequences[sequence].upperBound - 1), count: architecture.width)
            }
            architecture.finish(hidden, pass, into: hidden)
            let logits = try Scorer.logits(hidden, 0..<vocabulary, architecture, pass, scratch: 6)
            for (index, sequence) in tile.enumerated() {
                try choose(&sequences[sequence], UnsafeBufferPointer(start: logits.row(index), count: vocabulary))
            }
        }
    }

    private func choose(_ sequence: inout Sequence, _ logits: UnsafeBufferPointer<Float>) throws(LanguageModelError) {
        let (token, logProbability) = choice.choose(logits) { sequence.random.uniform() }
        guard logProbability.isFinite else {
            throw LanguageModelError(
                .malformed, "\(model.contents.name): prompt \(sequence.prompt): its logits are no numbers",
                hint: "a weight is NaN or infinite, or config.json makes them so")
        }
        let id = Int32(token)
        sequence.made.tokens.append(id)
        sequence.made.logProbabilities.append(logProbability)
        sequence.length += 1
        sequence.pending = []
        if options.ends.contains(id) {
            sequence.made.stop = .end
        } else if sequence.made.tokens.count >= options.maximumTokens {
            sequence.made.stop = .length
        } else if sequence.length > model.longest {
            sequence.made.stop = .positions
        } else {
            sequence.pending = [id]
        }
    }
}
