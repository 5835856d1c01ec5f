internal import CheckpointStore

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
