public import CheckpointStore
internal import TensorFormats

/// Snapshots that trainings which are not at their end go on with.
public enum NeededSnapshots {
    /// Each such snapshot, and what needs it. A state that cannot be read names none.
    ///
    /// - Complexity: O(runs that were trained), reading the headers of their states.
    public static func all(_ store: Store) throws(StoreError) -> [ContentID: String] {
        var needed: [ContentID: String] = [:]
        for run in Set(try store.history().map(\.run)).union(TrainingArea.runs(store)) where TrainingArea.exists(store, run: run) {
            guard let (state, _) = try? ResumeState.read(TrainingArea.statePath(store, run: run)),
                let progress = try? TrainingProgress(state.progress, path: run),
                let settings = try? JSONValue.parse(Array(state.settings.utf8), path: run),
                let rounds = settings["plan"]?["rounds"]?.unsigned, UInt64(progress.round) < rounds
            else { continue }
            let names = [settings["strong"]?.string] + (settings["weak"]?.array ?? []).map(\.string)
            let fixed = names.compactMap { $0.flatMap { ContentID(digits: $0) } }
            // The first round begins with those of the settings.
            let ids = progress.round == 0 ? fixed + progress.weaks : [progress.strong].compactMap { $0 } + progress.weaks
            for id in ids { needed[id] = "training \(run) goes on with it" }
        }
        return needed
    }
}
