/// Samples that go through a model together.
struct ScoringBatch {
    /// Indices of samples, in the order they lie in the batch.
    var samples: [Int] = []
    var tokens = 0
}

extension ScoringBatch {
    /// Groups samples of like length into batches of about `budget` tokens, the longest first; as many batches for each of
    /// `threads`, and all nearly alike, so that threads end together. A longer sample is a batch of its own.
    static func pack(_ samples: [ScoringSample], budget: Int, threads: Int) -> [ScoringBatch] {
        let order = samples.indices.filter { samples[$0].count > 0 }
            .sorted { (samples[$0].inputCount, $1) > (samples[$1].inputCount, $0) }
        let total = order.reduce(0) { $0 + samples[$1].inputCount }
        let round = max(1, budget) * threads
        let rounds = max(1, (total + round - 1) / round)
        let share = Double(total) / Double(rounds * threads)
        var batches: [ScoringBatch] = []
        var batch = ScoringBatch()
        var done = 0
        for index in order {
            let count = samples[index].inputCount
            // A batch ends where its end is nearer to where it should be without the next sample than with it.
            let end = share * Double(batches.count + 1)
            if !batch.samples.isEmpty, Double(done) + Double(count) / 2 > end {
                batches.append(batch)
                batch = ScoringBatch()
            }
            batch.samples.append(index)
            batch.tokens += count
            done += count
        }
        if !batch.samples.isEmpty { batches.append(batch) }
        return batches
    }

    /// The batch's tokens, and its scored rows sample by sample.
    func laidOut(_ samples: [ScoringSample]) -> (batch: Batch, scored: ScoredRows) {
        var batch = Batch()
        var scored = ScoredRows()
        for index in self.samples {
            let sample = samples[index]
            let start = batch.tokens.count
            batch.append(sample.tokens[..<sample.inputCount])
            for position in sample.supervised.joined() {
                scored.rows.append(start + position - 1)
                scored.targets.append(sample.tokens[position])
            }
        }
        return (batch, scored)
    }
}
