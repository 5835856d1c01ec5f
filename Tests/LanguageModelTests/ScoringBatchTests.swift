import TestSupport
import Testing

@testable import LanguageModel

/// How samples are put into batches.
@Suite struct ScoringBatchTests {
    @Test func batchesAreAlikeAndHoldEverySampleOnce() {
        var generator = SeededGenerator(test: "batches")
        for count in [1, 2, 3, 17, 200] {
            for threads in [1, 2, 7] {
                let samples = (0..<count).map { _ in
                    let length = Int.random(in: 2...400, using: &generator)
                    return ScoringSample(tokens: [Int32](repeating: 0, count: length), supervised: [1..<length])
                }
                let longest = samples.map(\.inputCount).max()!
                let batches = ScoringBatch.pack(samples, budget: 1024, threads: threads)
                #expect(batches.flatMap(\.samples).sorted() == Array(samples.indices), "\(generator.seed)")
                for batch in batches {
                    #expect(batch.tokens == batch.samples.reduce(0) { $0 + samples[$1].inputCount })
                    #expect(batch.tokens <= 1024 + longest, "\(generator.seed)")
                }
                if count == 200 {
                    #expect(batches.count % threads == 0, "\(generator.seed)")
                    #expect(batches.map(\.tokens).max()! - batches.map(\.tokens).min()! <= 2 * longest, "\(generator.seed)")
                }
            }
        }
    }

    @Test func aSampleLongerThanABatchIsOneByItself() {
        let samples = [5000, 10, 10].map { ScoringSample(tokens: [Int32](repeating: 0, count: $0), supervised: [1..<$0]) }
        #expect(ScoringBatch.pack(samples, budget: 1024, threads: 1)[0].samples == [0])
    }
}
