import CheckpointReports
import WeakTraining

extension Bootstrap {
    /// Its bounds; of fewer than two samples nothing can be said.
    func interval(of count: Int) -> String {
        count < 2 ? "-" : "\(Format.fixed(low, 4)) to \(Format.fixed(high, 4))"
    }

    var json: JSONOutput { ["mean": .double(mean), "low": .double(low), "high": .double(high)] }
}
