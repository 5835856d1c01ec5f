internal import CKernels
internal import CheckpointStore

/// One thread's sequences, continued in lockstep: a token of each a step. Those that are done leave, waiting ones come in.
struct DecodingLane {
    /// Prompts of together so many tokens are run at once; a longer one alone. No sequence of a batch is cut by chunks of rows, so
    /// that company changes no sum.
    static let promptTokens = ForwardPass.chunkRows

    private let model: LanguageModel
    private let options: GenerationOptions
    private let width: Int
    private let pass: ForwardPass
    private var live: [Sequence] = []

    private struct Sequence {
        var index: Int
        var request: GenerationRequest
        var cache: KeyValueCache
        var random: Philox
        var made = Generation()
        var isDone = false
    }

    /// - Parameter width: sequences at a time.
    init(_ model: LanguageModel, _ options: GenerationOptions, width: Int) throws(LanguageModelError) {
        (self.model, self.options, self.width) = (model, options, width)
        pass = try ForwardPass(model.contents)
    }

    /// Continues what `next` gives until that is nil and all are done.
    ///
    /// - Parameter next: takes the next request if its prompt has no more tokens than there is room for.
    mutating func run(
        next: (_ room: Int) -> (index: Int, request: GenerationRequest)?, isStopped: () -> Bool,
        deliver: ([GenerationEvent]) throws -> Void
    ) throws {
        while true {
            while live.count < width {
                var batch = Batch()
                var joining: [Sequence] = []
                while live.count + joining.count < width,
                    let (index, request) = next(joining.isEmpty ? .max : DecodingLane.promptTokens - batch.tokens.count)
                {
                    let capacity = min(model.longest, request.tokens.count + options.maximumNew)
                    let cache = KeyValueCache(capacity: capacity)
                    batch.append(request.tokens, after: cache)
                    joining.append(
                        Sequence(
                            index: index, request: request, cache: cache,
                            random: Philox(
                                seed: options.seed, .generate, round: UInt32(truncatingIfNeeded: request.sample),
                                pass: UInt32(truncatingIfNeeded: request.attempt))))
                }
                if joining.isEmpty { break }
                try step(batch, &joining, isStopped, deliver)
                live += joining
            }
            if live.isEmpty { return }
            var batch = Batch()
            for sequence in live { batch.append([sequence.made.tokens.last!], after: sequence.cache) }
            try step(batch, &live, isStopped, deliver)
        }
    }

    /// Runs a batch of `sequences`, and adds a token to each; those that are done are left out.
    private func step(
        _ batch: Batch, _ sequences: inout [Sequence], _ isStopped: () -> Bool, _ deliver: ([GenerationEvent]) throws -> Void
    ) throws {
        try model.run(batch, pass, isStopped)
        let architecture = model.architecture
        let hidden = pass.scratch(5, sequences.count, architecture.width)
        for (row, range) in batch.sequences.enumerated() {
            hidden.row(row).update(from: pass.stream.row(range.upperBound - 1), count: architecture.width)
        }
        architecture.finish(hidden, pass, into: hidden)
        let logits = try Scorer.logits(hidden, 0..<model.vocabularySize, architecture, pass, scratch: 6)
        var events: [GenerationEvent] = []
        for row in sequences.indices {
            let token = try choose(logits.row(row), &sequences[row])
            events.append(.token(request: sequences[row].index, token))
            guard let stop = stop(sequences[row]) else { continue }
            sequences[row].made.stop = stop
            sequences[row].isDone = true
            events.append(.finished(request: sequences[row].index, sequences[row].made))
        }
        sequences.removeAll(where: \.isDone)
        try deliver(events)
    }

    private func choose(_ logits: UnsafeMutablePointer<Float>, _ sequence: inout Sequence) throws(LanguageModelError) -> Int32 {
        var state = Scorer.empty
        pass.kernels.observe(logits, model.vocabularySize, 0, &state)
        guard state.sum.isFinite else {
            throw LanguageModelError(
                .malformed, "\(model.contents.name): \(sequence.request.shown): its logits are no numbers",
                hint: "a weight is NaN or infinite, or config.json makes them so")
        }
        let row = UnsafeBufferPointer(start: logits, count: model.vocabularySize)
        let token = options.temperature == 0
            ? state.top : TokenChooser(options: options).draw(row, largest: state.largest, &sequence.random)
        sequence.made.tokens.append(token)
        sequence.made.logProbabilities.append(0 - Float(state.nll(logits[Int(token)])))
        return token
    }

    private func stop(_ sequence: Sequence) -> Generation.Stop? {
        if options.ends.contains(sequence.made.tokens.last!) { return .end }
        if sequence.made.tokens.count == options.maximumNew { return .length }
        return sequence.cache.count == model.longest ? .positions : nil
    }
}
