public import CheckpointStore
public import TensorFormats

/// Everything that decides what a training run computes: two trainings with equal settings write equal snapshots.
public struct TrainingSettings: Sendable, Equatable {
    /// Where the strong model begins.
    public enum Start: Sendable, Equatable {
        /// The weights of a snapshot.
        case snapshot(ContentID)
        /// Random weights for a configuration, named by the hash of the files that describe it.
        case random(ContentID)
    }

    /// The run that is written; the trained weak branch goes to `weakRun`.
    public var run: String
    /// How it is trained.
    public var plan: TrainingPlan
    public var start: Start
    /// The weak snapshots of the first round.
    public var weaks: [ContentID]
    /// Whether the weak of each further round is chosen by its gap value; else it is the strong snapshot the round before began with.
    public var choosesWeak: Bool
    /// The probe whose samples are trained on.
    public var data: ContentID
    /// The probe that each snapshot is evaluated on.
    public var evaluation: ContentID?
    /// Of the snapshots; nil: each tensor as in the snapshot it began with, or as the configuration says.
    public var dtype: DType?
    /// Tokens of a micro-batch: they decide the order of sums.
    public var microBatchTokens: Int
    /// Steps from snapshot to snapshot.
    public var saveInterval: Int

    /// The run of a weak branch that is trained.
    public var weakRun: String { run + ".weak" }

    public static let defaultMicroBatchTokens = 2048
    public static let defaultSaveInterval = 100

    public init(
        run: String, plan: TrainingPlan, start: Start, weaks: [ContentID] = [], choosesWeak: Bool = false, data: ContentID,
        evaluation: ContentID? = nil, dtype: DType? = nil, microBatchTokens: Int = defaultMicroBatchTokens,
        saveInterval: Int = defaultSaveInterval
    ) {
        self.run = run
        self.plan = plan
        self.start = start
        self.weaks = weaks
        self.choosesWeak = choosesWeak
        self.data = data
        self.evaluation = evaluation
        self.dtype = dtype
        self.microBatchTokens = microBatchTokens
        self.saveInterval = saveInterval
    }

    /// As the state to go on from has it.
    var json: JSONValue { .object([.init(key: "run", value: .string(run))] + members) }

    /// As snapshots have it: under which name a run stands is no part of them.
    var nameless: JSONValue { .object(members) }

    private var members: [JSONValue.Member] {
        var members: [JSONValue.Member] = []
        func put(_ key: String, _ value: JSONValue?) { if let value { members.append(.init(key: key, value: value)) } }
        switch start {
        case .snapshot(let id): put("strong", .string("\(id)"))
        case .random(let id): put("random_weights_of", .string("\(id)"))
        }
        put("weak", .array(weaks.map { .string("\($0)") }))
        put("chooses_weak", .bool(choosesWeak))
        put("data", .string("\(data)"))
        put("evaluation", evaluation.map { .string("\($0)") })
        put("dtype", dtype.map { .string($0.name) })
        put("micro_batch_tokens", .unsigned(UInt64(microBatchTokens)))
        put("save_interval", .unsigned(UInt64(saveInterval)))
        put("plan", plan.value)
        return members
    }

    /// What differs from `other`, option by option, for people.
    func differences(from other: JSONValue) -> [String] {
        func flat(_ value: JSONValue, _ out: inout [String: String]) {
            for member in value.members ?? [] {
                if member.value.members != nil { flat(member.value, &out) } else { out[member.key] = TrainingSettings.shown(member.value) }
            }
        }
        var (mine, theirs) = ([String: String](), [String: String]())
        flat(json, &mine)
        flat(other, &theirs)
        return Set(mine.keys).union(theirs.keys).sorted().filter { mine[$0] != theirs[$0] }.map { key in
            "\(TrainingSettings.option(key)) was \(theirs[key] ?? "not given") and is \(mine[key] ?? "not given")"
        }
    }

    /// Ids by their beginning.
    private static func shown(_ value: JSONValue) -> String {
        if let text = value.string { return text.utf8.count == 64 ? String(text.prefix(12)) : text }
        if let elements = value.array { return elements.isEmpty ? "none" : elements.map(shown).joined(separator: ",") }
        return value.text
    }

    private static func option(_ key: String) -> String {
        let others = [
            "passes": "epochs", "save_interval": "save-every", "batch_size": "batch", "evaluation": "eval", "random_weights_of": "init",
            "chooses_weak": "weak auto", "warm_up_share": "warm-up", "warm_up_steps": "warm-up",
        ]
        return "--" + (others[key] ?? key.replacing("_", with: "-"))
    }
}
