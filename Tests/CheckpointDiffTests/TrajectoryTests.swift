import BlockCodec
import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

/// The way of a run against plain sums over its numbers.
@Suite struct TrajectoryTests {
    private static let shapes: [(String, DType, [UInt64])] = [
        ("model.embed_tokens.weight", .bf16, [700, 300]), ("model.layers.0.mlp.up_proj.weight", .f32, [90, 1000]),
        ("model.layers.0.self_attn.q_proj.weight", .f16, [33, 77]), ("model.layers.1.mlp.up_proj.weight", .f64, [10, 1000]),
        ("model.layers.1.norm.weight", .f8E4M3, [999]), ("still", .bf16, [300, 10]), ("steps", .i64, [3]),
    ]

    private func value(_ bytes: [UInt8], _ index: Int, _ dtype: DType) -> Double {
        bytes.withUnsafeBytes { bytes in
            switch dtype {
            case .bf16: Double(Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)) << 16))
            case .f16: FloatWords.half(bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
            case .f32: Double(bytes.loadUnaligned(fromByteOffset: 4 * index, as: Float.self))
            case .f64: bytes.loadUnaligned(fromByteOffset: 8 * index, as: Double.self)
            default: ElementValue.value(UInt64(bytes[index]), dtype)
            }
        }
    }

    private func versions(_ count: Int, _ generator: inout SeededGenerator) -> [[Written]] {
        var tensors = Self.shapes.map { name, dtype, shape -> Written in
            var bytes = generator.bytes(Int(dtype.byteCount(shape: shape)!))
            // Small finite numbers: the top byte of every word.
            let width = dtype.bits / 8
            if dtype != .i64 {
                for index in stride(from: width - 1, to: bytes.count, by: width) { bytes[index] = bytes[index] & 0x80 | 0x30 }
            }
            return Written(name: name, dtype: dtype, shape: shape, bytes: bytes)
        }
        return (0..<count).map { step in
            for index in tensors.indices where step > 0 && tensors[index].name != "still" && step % (index + 1) < 2 {
                let width = max(1, tensors[index].dtype.bits / 8)
                for _ in 0..<(tensors[index].bytes.count / 30) {
                    // Not the top byte: all stays finite.
                    let word = generator.below(tensors[index].bytes.count / width)
                    tensors[index].bytes[word * width] ^= 1 << UInt8(generator.below(width == 1 ? 2 : 8))
                }
            }
            return tensors
        }
    }

    @Test(arguments: [1, 2, 4, 9], [Packing.delta, .dense])
    func sumsArePlainSums(intervals: Int, packing: Packing) throws {
        var generator = SeededGenerator(test: "trajectory \(intervals) \(packing)")
        let versions = versions(intervals + 1, &generator)
        var history = try History()
        history.options.packing = packing
        for (step, tensors) in versions.enumerated() { try history.add(tensors, step: UInt64(step * step)) }
        let (store, stops) = (history.store, try history.stops())
        let found = try Trajectory(of: "r", snapshots: stops, in: store)
        #expect(found.leftOut == ["steps"] && found.tracks.count == Self.shapes.count - 1 && found.stops.count == intervals + 1)
        for track in found.tracks {
            let tensors = versions.map { $0.first { $0.name == track.name }! }
            let (dtype, bytes) = (tensors[0].dtype, tensors.map(\.bytes))
            let count = Int(DType.elementCount(shape: tensors[0].shape)!)
            #expect(track.words == UInt64(count) && track.intervals.count == intervals)
            for (index, interval) in track.intervals.enumerated() {
                var wanted = Track.Interval()
                for word in 0..<count {
                    let (first, last, now) = (value(bytes[0], word, dtype), value(bytes[index], word, dtype), value(bytes[index + 1], word, dtype))
                    let before = index == 0 ? last : value(bytes[index - 1], word, dtype)
                    if last.bitPattern != now.bitPattern { wanted.changed += 1 }
                    wanted.sumDelta += (now - last) * (now - last)
                    wanted.sumAlong += (now - last) * (last - before)
                    wanted.sumFromFirst += (now - first) * (now - first)
                }
                func isClose(_ a: Double, _ b: Double, _ size: Double) -> Bool { abs(a - b) <= 1e-9 * size }
                let name: Comment = "\(track.name) \(index), seed \(generator.seed): \(interval) \(wanted)"
                #expect(interval.changed == wanted.changed, name)
                #expect(isClose(interval.sumDelta, wanted.sumDelta, wanted.sumDelta), name)
                #expect(isClose(interval.sumFromFirst, wanted.sumFromFirst, wanted.sumFromFirst), name)
                let before = index == 0 ? 0 : track.intervals[index - 1].sumDelta
                #expect(isClose(interval.sumAlong, wanted.sumAlong, (wanted.sumDelta * before).squareRoot()), name)
            }
            // Two ways of asking the same.
            let delta = try CheckpointDiff.compare(store.contents(stops[0].ref), store.contents(stops[intervals].ref))
            #expect(abs((delta[track.name]?.deltaL2 ?? 0) - track.distance) <= 1e-6 * track.distance)
        }
        #expect(found.tracks.first { $0.name == "still" }!.pathLength == 0)
        // The same on one processor, to the last bit.
        let alone = try withProcessors(1) { try Trajectory(of: "r", snapshots: stops, in: store) }
        #expect(alone.tracks.map { $0.intervals.map(\.sumDelta) } == found.tracks.map { $0.intervals.map(\.sumDelta) })
        // Layers and kinds add up.
        for grouping in [DiffGrouping.layer, .kind] {
            let groups = found.groups(by: grouping)
            #expect(groups.reduce(0) { $0 + $1.tensors } == found.tracks.count && groups.count > 2)
            let sum = groups.reduce(0) { $0 + $1.intervals[0].sumDelta }
            #expect(abs(sum - found.total!.intervals[0].sumDelta) <= 1e-12 * sum)
        }
    }

    /// A word that is not finite for a while is out of the updates that touch it then, and of nothing else.
    @Test(arguments: [DType.bf16, .f32, .f64, .f16, .f8E5M2])
    func wordsThatAreNotFiniteForAWhile(dtype: DType) throws {
        let width = dtype.bits / 8
        func bytes(_ value: Int?) -> [UInt8] {
            // 1, 2, 4, or a NaN: exponents one apart.
            let (one, nan): (UInt64, UInt64) =
                switch dtype {
                case .bf16: (0x3F80, 0x7FC0)
                case .f16: (0x3C00, 0x7E00)
                case .f32: (0x3F80_0000, 0x7FC0_0000)
                case .f64: (0x3FF0_0000_0000_0000, 0x7FF8_0000_0000_0000)
                default: (0x3C, 0x7F)
                }
            let mantissa: UInt64 = dtype == .bf16 ? 7 : dtype == .f16 ? 10 : dtype == .f32 ? 23 : dtype == .f64 ? 52 : 2
            let word = value.map { one + UInt64($0) << mantissa } ?? nan
            return (0..<width).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
        }
        // Of 40 words one is a NaN at the third stop.
        let powers: [[Int?]] = (0..<5).map { stop in (0..<40).map { word in word == 17 && stop == 2 ? nil : stop % 3 } }
        var history = try History()
        for stop in powers { try history.add([Written(name: "w", dtype: dtype, shape: [40], bytes: stop.flatMap { bytes($0) })]) }
        let found = try Trajectory(of: "r", snapshots: history.stops(), in: history.store).tracks[0]
        func value(_ stop: Int, _ word: Int) -> Double? { powers[stop][word].map { pow(2, Double($0)) } }
        for (index, interval) in found.intervals.enumerated() {
            var (dd, de, ff, nonfinite) = (0.0, 0.0, 0.0, UInt64(0))
            for word in 0..<40 {
                let (last, now) = (value(index, word), value(index + 1, word))
                if let last, let now {
                    dd += (now - last) * (now - last)
                    if index > 0, let before = value(index - 1, word) { de += (now - last) * (last - before) }
                } else {
                    nonfinite += 1
                }
                if let first = value(0, word), let now { ff += (now - first) * (now - first) }
            }
            #expect(interval.sumDelta == dd && interval.sumAlong == de && interval.sumFromFirst == ff && interval.nonfinite == nonfinite, "\(index): \(interval)")
        }
        #expect(found.intervals.map(\.nonfinite) == [0, 1, 1, 0])
    }

    private func trajectory(_ lengths: [Double], steps: [UInt64]? = nil) -> (Trajectory, Track) {
        let track = Track(
            name: "w", tensors: 1, words: 1,
            intervals: lengths.map { Track.Interval(changed: 1, sumDelta: $0 * $0, sumAlong: 0, sumFromFirst: 1) })
        let steps = steps ?? (0...lengths.count).map { UInt64($0) * 10 }
        return (Trajectory(stops: steps.map { .init(ref: "r@\($0)", step: $0) }, tracks: [track], leftOut: []), track)
    }

    @Test func whereItSettlesAndChangesPace() {
        func settled(_ lengths: [Double]) -> Int? {
            let (trajectory, track) = trajectory(lengths)
            return trajectory.settled(track)
        }
        func pace(_ lengths: [Double], steps: [UInt64]? = nil) -> Trajectory.PaceChange? {
            let (trajectory, track) = trajectory(lengths, steps: steps)
            return trajectory.paceChange(track)
        }
        #expect(settled([10, 1, 0.1, 0.1]) == 2)
        #expect(settled([10, 0, 0, 0]) == 1)
        #expect(settled([1, 1, 1, 1]) == nil && settled([0, 0]) == nil && settled([1]) == nil)
        let slower = pace([4, 4.1, 3.9, 4, 1, 1.1, 0.9, 1])
        #expect(slower?.stop == 4 && abs(slower!.factor - 0.25) < 0.02)
        // By steps of training, not by intervals: twice the length over twice the steps is the same pace.
        #expect(pace([1, 1, 2, 2, 2], steps: [0, 10, 20, 40, 60, 80]) == nil)
        #expect(pace([1, 1, 2, 2, 2])?.stop == 2)
        // Too few, none, and noise.
        #expect(pace([4, 4, 1]) == nil && pace([1, 0, 1, 1, 1]) == nil && pace([1, 1.2, 0.9, 1.1, 1, 0.95]) == nil)
    }

    @Test func refusals() throws {
        var history = try History()
        let store = history.store
        #expect(throws: StoreError.self) { try Trajectory(of: "r", snapshots: [], in: store) }
        var generator = SeededGenerator(test: "refusals")
        for tensors in versions(2, &generator) { try history.add(tensors) }
        let stops = try history.stops()
        #expect { try Trajectory(of: "r", snapshots: stops, in: store, monitor: Monitor(isCancelled: { true })) } throws: {
            ($0 as? StoreError)?.code == .interrupted
        }
        #expect(try Trajectory(of: "r", snapshots: stops, in: store, only: { $0 == "still" }).tracks.map(\.name) == ["still"])
        #expect(throws: StoreError.self) { try Trajectory(of: "r", snapshots: [stops[0], Trajectory.Stop(ref: "r@7", step: 7)], in: store) }
    }
}
