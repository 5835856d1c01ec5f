internal import CheckpointStore
internal import LanguageModel

extension Trainer {
    /// Weights that samples are drawn by, and with several weak models which of them each sample is mixed with: the one with the
    /// greatest gap.
    func drawingWeights() throws -> (weights: [Double], choices: [Int]?) {
        let curriculum = settings.plan.recipe.curriculum
        let ids = probe.probe.samples.map(\.id)
        let isSeveral = settings.plan.recipe.mix.hasWeak && progress.weaks.count > 1
        let strong: [Double?] =
            try curriculum.selection.readsStrong || isSeveral ? host.entropies(progress.strong!) : []
        let weaks: [[Double?]] =
            try curriculum.selection.readsWeak || isSeveral ? progress.weaks.map(host.entropies) : []
        let choices = isSeveral ? try Trainer.choices(ids: ids, strong: strong, weaks: weaks) : nil
        let weak: [Double?] = weaks.isEmpty ? [] : choices.map { $0.enumerated().map { weaks[$1][$0] } } ?? weaks[0]
        let weights = try curriculum.weights(ids: ids, weak: weak, strong: strong)
        let hash = weights.withUnsafeBytes { "\(ContentID.hash(of: $0))" }
        guard progress.weightsHash.isEmpty || progress.weightsHash == hash else {
            throw StoreError(
                .conflict, "run \(settings.run): the entropy records of its snapshots are no longer those it began with",
                hint: "another --run begins anew")
        }
        progress.weightsHash = hash
        return (weights, choices)
    }

    /// For each sample the weak model with the greatest gap; of equal ones the last.
    static func choices(ids: [String], strong: [Double?], weaks: [[Double?]]) throws(WeakTrainingError) -> [Int] {
        let gap = GapValue.Settings()
        var choices: [Int] = []
        for (sample, id) in ids.enumerated() {
            var best = (gain: -1.0, weak: 0)
            for (index, weak) in weaks.enumerated() {
                guard let mine = strong[sample], let theirs = weak[sample], mine.isFinite, theirs.isFinite else {
                    throw WeakTrainingError(.badInput, "sample \(id): it has no entropy", hint: "ckpt entropy computes it")
                }
                let gain = gap.consolidation * max(0, theirs - mine) + gap.regression * max(0, mine - theirs)
                if gain >= best.gain { best = (gain, index) }
            }
            choices.append(best.weak)
        }
        return choices
    }
}
