/// Which snapshots of runs are kept. Rules combine: a snapshot that any of them keeps stays.
///
/// A run's head and pinned snapshots stay whatever it says, and tagged ones do unless it `includesTagged`.
public struct RetentionPolicy: Sendable, Equatable {
    /// The snapshots of a run with the greatest, or lowest, of a metric.
    public struct Best: Sendable, Equatable {
        public var metric: String
        /// How many of each run.
        public var count: Int
        /// Whether low is good, as of a loss.
        public var isLowest: Bool

        public init(metric: String, count: Int, isLowest: Bool) {
            self.metric = metric
            self.count = count
            self.isLowest = isLowest
        }
    }

    /// What a set of snapshots is worth: for `keepByWorth` and `budget`.
    public enum Worth: Sendable, Equatable {
        /// By gap value on a probe: what its entropy records say a set can still teach.
        case gap(probe: String, leastGap: Double)
        /// By the distance of weights, a proxy where nothing was measured.
        case distance
    }

    /// The newest so many of each run.
    public var keepLast: Int?
    /// Those whose step is a multiple.
    public var keepEvery: UInt64?
    /// Those with a tag that matches one of these patterns, as of a shell.
    public var keepTags: [String] = []
    /// Those that are best by a metric.
    public var keepBest: [Best] = []
    /// The set of so many that is worth most.
    public var keepByWorth: Int?
    /// The set worth most whose blocks take at most so many packed bytes, with all that other rules keep.
    public var budget: UInt64?
    /// What `keepByWorth` and `budget` choose by; needed with either.
    public var worth: Worth?
    /// The snapshot that worth is measured against; nil: each run's head.
    public var strong: String?
    /// Those taken in within so many seconds.
    public var leastAge: UInt64?
    /// Optimizer state stays with the newest so many of each run; nil: it stays.
    public var optimizerKeep: Int?
    /// Whether tagged snapshots may go.
    public var includesTagged = false

    /// Without a rule: it drops nothing until one is set, and is refused by `check`.
    public init() {}

    /// Whether it has no rule that says what is to be kept.
    public var isEmpty: Bool { !keepsSnapshots && optimizerKeep == nil }

    /// Whether it says which snapshots are kept: with none of these rules, all are.
    public var keepsSnapshots: Bool {
        keepLast != nil || keepEvery != nil || !keepTags.isEmpty || !keepBest.isEmpty || keepByWorth != nil || budget != nil
            || leastAge != nil
    }

    /// - Throws: `.badInput` naming the rule as the command line has it.
    public func check() throws(StoreError) {
        func refuse(_ reason: String, hint: String? = nil) -> StoreError { StoreError(.badInput, reason, hint: hint) }
        guard !isEmpty else {
            throw refuse("a policy without a rule would drop everything", hint: "say what is kept: --keep-last 5, say")
        }
        if let keepLast, keepLast < 1 { throw refuse("--keep-last \(keepLast): 1 at least") }
        if let keepEvery, keepEvery < 1 { throw refuse("--keep-every \(keepEvery): 1 at least") }
        if let keepByWorth, keepByWorth < 1 { throw refuse("--keep-gap \(keepByWorth): 1 at least") }
        if let optimizerKeep, optimizerKeep < 1 {
            throw refuse("--optimizer-keep \(optimizerKeep): 1 at least; a run's head keeps its own")
        }
        for best in keepBest {
            if best.count < 1 { throw refuse("--keep-best \(best.metric):\(best.count): 1 at least") }
            try Metric.check(name: best.metric)
        }
        guard (keepByWorth == nil && budget == nil) || worth != nil else {
            throw refuse("--keep-gap and --budget choose by what snapshots are worth", hint: "--probe NAME, or --by-distance")
        }
        if case .gap(_, let leastGap)? = worth, !leastGap.isFinite { throw refuse("--min-gap is a number") }
    }
}
