import CheckpointDiff
import CheckpointReports

/// The way of a run's weights as text and as JSON (format-spec/diff-json.md).
struct TrajectoryFormat {
    private let trajectory: Trajectory
    private let tracks: [Track]
    private let grouping: DiffGrouping
    private let shown: ArraySlice<Track>

    init(_ trajectory: Trajectory, by grouping: DiffGrouping, limit: Int) {
        self.trajectory = trajectory
        self.grouping = grouping
        tracks = trajectory.groups(by: grouping)
        shown = limit == 0 ? tracks[...] : tracks.prefix(limit)
    }

    private static let speedWidth = 32

    var text: String {
        var table = TextTable([
            .init(title: grouping == .tensor ? "TENSOR" : grouping == .layer ? "LAYER" : "KIND", shrinks: true),
            .init(title: "TENSORS", isNumber: true), .init(title: "PATH", isNumber: true), .init(title: "DISTANCE", isNumber: true),
            .init(title: "STRAIGHT", isNumber: true), .init(title: "COSINE", isNumber: true), .init(title: "SETTLED", isNumber: true),
            .init(title: "PACE", isNumber: true), .init(title: "SPEED"),
        ])
        for track in shown { table.add(cells(track)) }
        if let total = trajectory.total, tracks.count > 1 { table.add(cells(total)) }
        var lines = [table.text(width: Console.width)]
        if shown.count < tracks.count { lines.append("\(tracks.count - shown.count) more \(tracks.count - shown.count == 1 ? "row" : "rows") (--limit 0 shows all)") }
        let stops = trajectory.stops
        var summary = "\(stops.count) snapshots, \(stops[0].ref) to \(stops[stops.count - 1].ref)"
        if !trajectory.leftOut.isEmpty {
            summary += "; left out: \(Format.count(trajectory.leftOut.count, "tensor")) that not all have alike, or not in floating point"
        }
        let nonfinite = trajectory.total.map { $0.intervals.map(\.nonfinite) } ?? []
        if let first = nonfinite.firstIndex(where: { $0 > 0 }) {
            summary += "; \(nonfinite[first]) words are NaN or infinite around step \(stops[first + 1].step) (they count as not moved)"
        }
        return (lines + [summary]).joined(separator: "\n")
    }

    private func cells(_ track: Track) -> [String] {
        let pace = trajectory.paceChange(track)
        return [
            track.name, "\(track.tensors)", Format.significant(track.pathLength), Format.significant(track.distance),
            track.straightness.map { Format.fixed($0, 3) } ?? "-", track.meanCosine.map { Format.fixed($0, 3) } ?? "-",
            track.pathLength == 0 ? "always" : trajectory.settled(track).map { "\(trajectory.stops[$0].step)" } ?? "-",
            pace.map { "\(trajectory.stops[$0.stop].step): x\(Format.significant($0.factor))" } ?? "-",
            DiffPlot.sparkline(AxisSummary.profile(trajectory.speeds(track), stretches: TrajectoryFormat.speedWidth)),
        ]
    }

    /// Speeds of all weights, from each snapshot to the next.
    var plot: String {
        guard let total = trajectory.total else { return "" }
        let speeds = trajectory.speeds(total)
        let lines = speeds.indices.map { index in
            ("\(trajectory.stops[index].step) to \(trajectory.stops[index + 1].step)", speeds[index], Format.significant(speeds[index]))
        }
        return "distance a step of training, all weights\n" + DiffPlot.bars(lines, width: Console.width)
    }

    var json: JSONOutput {
        [
            "by": .string(grouping.rawValue),
            "snapshots": .array(trajectory.stops.map { ["ref": .string($0.ref), "step": .unsigned($0.step)] }),
            "rows": .array(shown.map(json)), "row_count": .int(tracks.count), "total": trajectory.total.map(json) ?? .null,
            "left_out": .strings(trajectory.leftOut),
        ]
    }

    private func json(_ track: Track) -> JSONOutput {
        let pace = trajectory.paceChange(track)
        return [
            "name": .string(track.name), "tensors": .int(track.tensors), "words": .unsigned(track.words),
            "path": .double(track.pathLength), "distance": .double(track.distance),
            "straightness": track.straightness.map { .double($0) } ?? .null, "mean_cosine": track.meanCosine.map { .double($0) } ?? .null,
            "lengths": .array(track.intervals.map { .double($0.length) }), "speeds": .array(trajectory.speeds(track).map { .double($0) }),
            "distances": .array(track.intervals.map { .double($0.distance) }),
            "cosines": .array(track.cosines.map { $0.map { .double($0) } ?? .null }),
            "changed": .array(track.intervals.map { .unsigned($0.changed) }), "nonfinite": .array(track.intervals.map { .unsigned($0.nonfinite) }),
            "settled_step": trajectory.settled(track).map { .unsigned(trajectory.stops[$0].step) } ?? .null,
            "pace_change": pace.map { ["step": .unsigned(trajectory.stops[$0.stop].step), "factor": .double($0.factor)] } ?? .null,
        ]
    }
}
