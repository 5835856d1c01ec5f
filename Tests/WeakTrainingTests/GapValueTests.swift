import Testing
import WeakTraining

@Suite struct GapValueTests {
    /// V of a set, straight from its definition.
    static func value(_ strong: [Double], _ set: [[Double]]) -> Double {
        var sum = 0.0
        for i in strong.indices {
            let gains = set.map { (entropy: [Double]) -> Double in
                let gap = entropy[i] - strong[i]
                return gap > 0 ? 0.8 * gap : -0.1 * gap
            }
            sum += gains.max() ?? 0
        }
        return sum / Double(strong.count)
    }

    @Test func valuesAndMarginalsFollowTheDefinition() {
        let strong = (0..<40).map { 0.2 + 0.01 * Double($0 % 7) }
        let old = (0..<40).map { 0.9 + 0.05 * Double($0 % 3) }
        let other = (0..<40).map { $0 < 20 ? 1.6 : 0.1 }
        let gap = GapValue(
            strong: strong, candidates: [.init(entropy: old, meanNLL: 1), .init(entropy: other, meanNLL: 1)], unigramNLL: 3)
        #expect(abs(gap.rows[0].value.mean - GapValueTests.value(strong, [old])) < 1e-12)
        #expect(abs(gap.rows[1].value.mean - GapValueTests.value(strong, [other])) < 1e-12)
        let second = gap.rows.first { $0.pick == 1 }!
        let first = gap.rows.first { $0.pick == 0 }!
        #expect(abs(first.marginal + second.marginal - GapValueTests.value(strong, [old, other])) < 1e-12)
        #expect(first.value.mean >= second.value.mean)
        #expect(first.value.low <= first.value.mean && first.value.mean <= first.value.high)
    }

    @Test func guardsRefuseWhatIsTooCloseAndWhatKnowsNothing() {
        let strong = [Double](repeating: 0.5, count: 30)
        let close = strong.map { $0 + 0.01 }
        let random = strong.map { $0 + 5 }
        let useful = strong.map { $0 + 0.3 }
        let gap = GapValue(
            strong: strong,
            candidates: [
                .init(entropy: random, meanNLL: 6), .init(entropy: useful, meanNLL: 1.2), .init(entropy: close, meanNLL: 1),
            ], unigramNLL: 4)
        #expect(gap.rows.map(\.guarding) == [.tooWeak, .none, .tooClose])
        #expect(gap.best == 1)
        #expect(gap.rows[0].value.mean == 0 && gap.rows[2].value.mean == 0)
        #expect(GapValue(strong: strong, candidates: [.init(entropy: close, meanNLL: 1)], unigramNLL: 4).best == nil)
    }

    @Test func ofSnapshotsThatCannotBeToldApartTheLaterWins() {
        let strong = (0..<50).map { 0.3 + 0.02 * Double($0 % 5) }
        let early = strong.enumerated().map { $1 + 0.3 + 0.1 * Double($0 % 4) }
        let late = strong.enumerated().map { $1 + 0.29 + 0.1 * Double($0 % 4) }
        let gap = GapValue(
            strong: strong, candidates: [.init(entropy: early, meanNLL: 1), .init(entropy: late, meanNLL: 1)], unigramNLL: 4)
        #expect(gap.rows[0].value.mean > gap.rows[1].value.mean)
        #expect(gap.best == 1)
    }

    @Test func intervalsHoldTheMeanOfManyDraws() {
        // 19 of 20 intervals of a mean of uniform numbers should hold one half.
        var state: UInt64 = 7
        func uniform() -> Double {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Double(state >> 11) / Double(1 << 53)
        }
        let held = (0..<200).filter { _ in
            let interval = Bootstrap((0..<60).map { _ in uniform() })
            return interval.low <= 0.5 && 0.5 <= interval.high
        }.count
        #expect((176...198).contains(held))
        #expect(Bootstrap([]).mean == 0)
    }
}
