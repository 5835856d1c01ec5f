#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// How the weights of a run moved from snapshot to snapshot.
public struct Trajectory: Sendable {
    /// A snapshot on the way.
    public struct Stop: Sendable {
        /// A snapshot of the store.
        public var ref: String
        /// Of training: speeds are per step.
        public var step: UInt64

        public init(ref: String, step: UInt64) {
            self.ref = ref
            self.step = step
        }
    }

    /// Oldest first; two at least.
    public var stops: [Stop]
    /// One for each tensor of floating-point weights that all snapshots have in the same shape and type, in the order of the first one's.
    public var tracks: [Track]
    /// Names of the tensors of weights that are not among them.
    public var leftOut: [String]

    /// All of them as one.
    public var total: Track? { Track.sum(tracks, name: "all") }

    /// The tracks one by one, by layer in the order of their numbers, or by kind in order of first appearance.
    public func groups(by grouping: DiffGrouping) -> [Track] {
        guard grouping != .tensor else { return tracks }
        var names: [String] = []
        var members: [String: [Track]] = [:]
        for track in tracks {
            let name = grouping == .layer ? TensorGroup.layer(track.name) : TensorGroup.kind(track.name)
            if members[name] == nil { names.append(name) }
            members[name, default: []].append(track)
        }
        if grouping == .layer { names.sort(by: TensorGroup.precedes) }
        return names.compactMap { Track.sum(members[$0]!, name: $0) }
    }

    /// Steps of training between one stop and the next.
    private func stepsBetween(_ index: Int) -> Double { Double(stops[index + 1].step) - Double(stops[index].step) }

    /// Distance covered a step of training, from each stop to the next.
    public func speeds(_ track: Track) -> [Double] {
        track.intervals.indices.map { track.intervals[$0].length / max(1, stepsBetween($0)) }
    }

    /// The first stop behind which no more than a twentieth of the path lies; nil where nothing moved or that is the last stop.
    public func settled(_ track: Track) -> Int? {
        let path = track.pathLength
        guard path > 0 else { return nil }
        var left = path
        for (index, interval) in track.intervals.enumerated() {
            left -= interval.length
            if left <= path / 20 { return index + 1 < stops.count - 1 ? index + 1 : nil }
        }
        return nil
    }

    /// Where speed changed most, if it did.
    public struct PaceChange: Sendable {
        /// Index of the stop.
        public var stop: Int
        /// Mean speed behind it over that before it, as a geometric mean.
        public var factor: Double
    }

    /// The stop that divides the speeds best into a part before and one behind (least squares of their logarithms); nil unless that explains
    /// half of their variation and is a change by half or more.
    public func paceChange(_ track: Track) -> PaceChange? {
        let logarithms = speeds(track).map { $0 > 0 ? log($0) : nil }
        guard logarithms.count >= 4, logarithms.allSatisfy({ $0 != nil }) else { return nil }
        let values = logarithms.map { $0! }
        func spread(_ range: Range<Int>) -> (mean: Double, squares: Double) {
            let mean = values[range].reduce(0, +) / Double(range.count)
            return (mean, values[range].reduce(0) { $0 + ($1 - mean) * ($1 - mean) })
        }
        let whole = spread(0..<values.count).squares
        func squares(_ place: Int) -> Double { spread(0..<place).squares + spread(place..<values.count).squares }
        let best = (2...(values.count - 2)).min { squares($0) < squares($1) }!
        let (before, behind) = (spread(0..<best), spread(best..<values.count))
        let change = behind.mean - before.mean
        guard before.squares + behind.squares <= whole / 2, abs(change) >= log(1.5) else { return nil }
        return PaceChange(stop: best, factor: exp(change))
    }
}

/// The way of one tensor, or of several taken together.
public struct Track: Sendable {
    /// From one stop to the next: `d` is the later minus the earlier.
    public struct Interval: Sendable {
        /// Words whose bits differ.
        public var changed: UInt64 = 0
        /// Words that are NaN or infinite in one of the two: they are in neither of the next two sums.
        public var nonfinite: UInt64 = 0
        /// Sums of squares of d, of its products with the d before, and of squares of what the later differs from the first stop in. Each leaves
        /// out words that are not finite in one of the versions that it is about.
        public var sumDelta = 0.0
        /// Of products of d with the d before.
        public var sumAlong = 0.0
        /// Of squares of what the later differs from the first stop in.
        public var sumFromFirst = 0.0

        /// The L2 norm of d.
        public var length: Double { sumDelta.squareRoot() }
        /// How far the later is from the first stop.
        public var distance: Double { sumFromFirst.squareRoot() }
    }

    public var name: String
    /// Tensors in it.
    public var tensors: Int
    /// Numbers in them.
    public var words: UInt64
    /// One fewer than stops.
    public var intervals: [Interval]

    /// The sum of the lengths of all intervals.
    public var pathLength: Double { intervals.reduce(0) { $0 + $1.length } }
    /// From the first stop to the last.
    public var distance: Double { intervals.last?.distance ?? 0 }
    /// Distance over path: 1 on a straight line; nil where nothing moved.
    public var straightness: Double? { pathLength > 0 ? distance / pathLength : nil }
    /// Between each update and the one before; nil where one of the two is none. One fewer than intervals.
    public var cosines: [Double?] {
        (1..<max(1, intervals.count)).map { index in
            let lengths = intervals[index].length * intervals[index - 1].length
            let cosine = intervals[index].sumAlong / lengths
            return lengths > 0 && cosine.isFinite ? max(-1, min(1, cosine)) : nil
        }
    }
    /// The mean of those that are known; nil where none is.
    public var meanCosine: Double? {
        let known = cosines.compactMap { $0 }
        return known.isEmpty ? nil : known.reduce(0, +) / Double(known.count)
    }

    fileprivate static func sum(_ tracks: [Track], name: String) -> Track? {
        guard var sum = tracks.first else { return nil }
        sum.name = name
        for track in tracks.dropFirst() {
            sum.tensors += track.tensors
            sum.words += track.words
            for index in sum.intervals.indices {
                sum.intervals[index].changed += track.intervals[index].changed
                sum.intervals[index].nonfinite += track.intervals[index].nonfinite
                sum.intervals[index].sumDelta += track.intervals[index].sumDelta
                sum.intervals[index].sumAlong += track.intervals[index].sumAlong
                sum.intervals[index].sumFromFirst += track.intervals[index].sumFromFirst
            }
        }
        return sum
    }
}
