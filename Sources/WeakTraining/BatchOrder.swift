internal import LanguageModel

/// Which samples a round trains on, in which order. Any step's batch can be had by its number alone, so that a run which goes on
/// after a stop needs to keep nothing but the step.
///
/// A pass is a list of samples: of `uniform` a permutation of all; of `v1`, `code` and formulas as many draws with replacement as
/// there are samples, times the multiplier; of `v2` as many draws as there are samples, of which repeats are dropped and the
/// rest is shuffled. Batches are consecutive slices of it; a pass's last one is smaller and never filled from the next pass.
public struct BatchOrder: Sendable {
    /// The samples of one step.
    public struct Batch: Sendable, Equatable {
        /// From 0.
        public var pass: Int
        /// Which of the pass's batches.
        public var place: Int
        /// Places of its samples among all, from one to the batch size of them; one that was drawn again is there again.
        public var samples: [Int]

        public init(pass: Int, place: Int, samples: [Int]) {
            self.pass = pass
            self.place = place
            self.samples = samples
        }
    }

    private let selection: Selection
    private let draw: SampleDraw
    private let sampleCount: Int
    private let drawsPerPass: Int
    private let seed: UInt64
    private let round: UInt32
    private let batchSize: Int
    /// First step of each pass that has been looked at, and of the one after them. Passes of `v2` have lengths of their own.
    private var starts = [0]
    /// The pass that was made last.
    private var latest: (pass: Int, samples: [Int])?

    /// - Parameters:
    ///   - selection: how a pass is made.
    ///   - weights: one a sample, as `Curriculum` makes them; of `uniform` their number alone counts.
    ///   - multiplier: draws in a pass over samples; the draws are rounded to the nearest whole number, halves up, at least one.
    ///   - round: of the loop, from 0.
    ///   - batchSize: samples a step, at least 1.
    public init(
        _ selection: Selection, weights: [Double], multiplier: Double = 1, seed: UInt64, round: Int, batchSize: Int
    ) {
        precondition(batchSize > 0 && multiplier > 0 && (multiplier == 1 || selection.hasMultiplier))
        self.selection = selection
        draw = SampleDraw(weights)
        sampleCount = weights.count
        drawsPerPass = max(1, Int((Double(weights.count) * multiplier).rounded()))
        self.seed = seed
        self.round = UInt32(round)
        self.batchSize = batchSize
    }

    /// The samples of `pass` in the order of training.
    ///
    /// - Complexity: O(draws * log(samples)).
    public func samples(ofPass pass: Int) -> [Int] {
        var drawing = Philox(seed: seed, .draw, round: round, pass: UInt32(pass))
        var shuffling = Philox(seed: seed, .shuffle, round: round, pass: UInt32(pass))
        switch selection {
        case .uniform: return shuffling.permutation(sampleCount)
        case .v1, .code, .formula: return draw.indices(drawsPerPass, from: &drawing)
        case .v2:
            var seen = [Bool](repeating: false, count: sampleCount)
            var kept: [Int] = []
            for sample in draw.indices(drawsPerPass, from: &drawing) where !seen[sample] {
                seen[sample] = true
                kept.append(sample)
            }
            return shuffling.permutation(kept.count).map { kept[$0] }
        }
    }

    /// The batch of step `step`, counted from 0 at the start of the round.
    ///
    /// - Complexity: O(batch size) within the pass of the call before; else that of a pass, for `v2` of every pass up to it.
    public mutating func batch(_ step: Int) -> Batch {
        let pass = pass(of: step)
        let samples = made(pass)
        let place = step - starts[pass]
        let first = place * batchSize
        return Batch(pass: pass, place: place, samples: Array(samples[first..<min(first + batchSize, samples.count)]))
    }

    /// Steps of the first `passes` passes.
    ///
    /// - Complexity: O(passes); of `v2` that of making every one of them.
    public mutating func steps(ofPasses passes: Int) -> Int {
        while starts.count <= passes { addPass() }
        return starts[passes]
    }

    private mutating func pass(of step: Int) -> Int {
        while starts.last! <= step { addPass() }
        // The last pass that starts at or before the step: no pass is empty.
        var (low, high) = (0, starts.count - 1)
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= step { low = middle } else { high = middle }
        }
        return low
    }

    private mutating func addPass() {
        let pass = starts.count - 1
        let count =
            switch selection {
            case .uniform: sampleCount
            case .v1, .code, .formula: drawsPerPass
            case .v2: made(pass).count
            }
        starts.append(starts[pass] + (count + batchSize - 1) / batchSize)
    }

    private mutating func made(_ pass: Int) -> [Int] {
        if let latest, latest.pass == pass { return latest.samples }
        let samples = samples(ofPass: pass)
        latest = (pass, samples)
        return samples
    }
}
