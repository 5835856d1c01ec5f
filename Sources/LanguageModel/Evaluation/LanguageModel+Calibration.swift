internal import CheckpointStore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension LanguageModel {
    /// What the model says about each supervised token at each of `temperatures`: of all samples, in their order.
    ///
    /// - Parameter progress: tokens that were scored since the last call; on any thread, one call at a time.
    /// - Throws: as `score`.
    /// - Complexity: O(tokens * (parameters + temperatures * vocabulary)), over the threads.
    public func score(
        _ samples: [ScoringSample], temperatures: [Double], _ options: ScoringOptions = ScoringOptions(),
        isStopped: @Sendable () -> Bool = { false }, progress: (Int) -> Void = { _ in }
    ) throws(LanguageModelError) -> [TemperedOutputs] {
        precondition(temperatures.allSatisfy { $0 > 0 && $0.isFinite })
        var bySample = [TemperatureSeries?](repeating: nil, count: samples.count)
        try Scoring.run(
            samples, self, contents.name, options, isStopped,
            deliver: { (results: [(sample: Int, outputs: TemperatureSeries)]) in
                for (sample, outputs) in results { bySample[sample] = outputs }
                progress(results.reduce(0) { $0 + samples[$1.sample].count })
            }
        ) { () throws(LanguageModelError) in
            let pass = try ForwardPass(contents)
            return { batch, scored, isStopped throws(LanguageModelError) in
                try run(batch, pass, isStopped)
                var series = TemperatureSeries(outputs: temperatures.map { _ in TemperedOutputs() })
                try Scoring.forEachTile(scored) { range throws(LanguageModelError) in
                    let part = try Scorer.score(scored, range, architecture, pass, temperatures: temperatures)
                    for index in temperatures.indices { series.outputs[index].append(contentsOf: part.outputs[index]) }
                }
                return series
            }
        }
        var all = temperatures.map { _ in TemperedOutputs() }
        for series in bySample {
            guard let series else { continue }
            for index in temperatures.indices { all[index].append(contentsOf: series.outputs[index]) }
        }
        return all
    }

    /// Passes that `fittedTemperature` makes over its samples.
    public static let fittingPasses = 3

    /// The temperature, from .05 to 20, at which the loss of the samples' supervised tokens is least; its logarithm to about 1e-5.
    ///
    /// The loss has one minimum. Each pass takes the slope at a row of temperatures between the bounds, and the bounds closer; a
    /// straight line between the last two gives the place. Logits are made once a pass, not once for each temperature.
    ///
    /// - Throws: as `score`.
    public func fittedTemperature(
        _ samples: [ScoringSample], _ options: ScoringOptions = ScoringOptions(), isStopped: @Sendable () -> Bool = { false },
        progress: (Int) -> Void = { _ in }
    ) throws(LanguageModelError) -> Double {
        try TemperatureFit.minimum(passes: LanguageModel.fittingPasses) { temperatures throws(LanguageModelError) in
            try score(samples, temperatures: temperatures, options, isStopped: isStopped, progress: progress)
                .map { $0.slope.reduce(0, +) }
        }
    }
}

/// Where a slope over ln T, from .05 to 20, changes from falling to rising.
enum TemperatureFit {
    private static let places = 16

    static func minimum(
        passes: Int, _ slopes: ([Double]) throws(LanguageModelError) -> [Double]
    ) throws(LanguageModelError) -> Double {
        var bounds = (low: log(0.05), high: log(20.0))
        for pass in 1...passes {
            let step = (bounds.high - bounds.low) / Double(places - 1)
            let logs = (0..<places).map { bounds.low + step * Double($0) }
            let found = try slopes(logs.map { exp($0) })
            guard let rising = found.firstIndex(where: { $0 >= 0 }) else { return exp(bounds.high) }
            if rising == 0 { return exp(bounds.low) }
            let (before, after) = (found[rising - 1], found[rising])
            if pass == passes { return exp(logs[rising - 1] + step * before / (before - after)) }
            bounds = (logs[rising - 1], logs[rising])
        }
        return exp(bounds.high)
    }
}
