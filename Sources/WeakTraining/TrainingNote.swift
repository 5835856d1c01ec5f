internal import CheckpointStore
internal import TensorFormats

/// Which of the two models that are trained together a snapshot is of.
enum TrainedBranch: String {
    case strong, weak
}

/// What a trained snapshot says of itself, in a file beside its weights: how it was made, of what, and how good it is. The same
/// training writes the same note: no times are in it.
struct TrainingNote {
    static let fileName = "ckpt_training.json"

    var settings: TrainingSettings
    var branch: TrainedBranch
    var step: Int
    var round: Int
    /// The snapshots its round began with.
    var strong: ContentID?
    var weaks: [ContentID]
    var share: Double?
    var metrics: [(name: String, value: Double)]

    var json: JSONValue {
        .members([
            "program": .string("ckpt \(CkptVersion.current)"),
            "branch": .string(branch.rawValue),
            "step": .unsigned(UInt64(step)), "round": .unsigned(UInt64(round)),
            "round_strong": strong.map { .string("\($0)") }, "round_weak": .array(weaks.map { .string("\($0)") }),
            "share": share.map { .double($0) },
            "metrics": .object(metrics.map { .init(key: $0.name, value: .double($0.value)) }),
            "settings": settings.nameless,
        ])
    }
}
