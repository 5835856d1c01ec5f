public import BlockCodec

/// How checkpoints are taken in. The defaults keep everything.
public struct IngestOptions: Sendable {
    /// The run the snapshots join; nil: the name of the directory they lie in.
    public var run: String?
    /// The step of a single checkpoint; nil: told by its name or its trainer's state, else 0. With a step, a
    /// directory is one checkpoint even when it holds `checkpoint-N` directories, which are then left out.
    public var step: UInt64?
    /// The snapshot it was trained from, of a series the first; nil: the run's previous step.
    public var parent: String?
    /// Names that each snapshot is given.
    public var tags: [String] = []
    /// Figures that each snapshot is given.
    public var metrics: [String: Double] = [:]
    /// Whether snapshots are pinned: they keep images and are never dropped.
    public var pin = false
    /// How new blocks are kept.
    public var packing = Packing.delta
    /// Whether optimizer state is kept.
    public var keepsOptimizer = true
    /// After each snapshot, the optimizer state of all but the last so many steps of its run is dropped (tagged and pinned
    /// snapshots keep theirs); nil: all stays. At least 1: a run's head stays whole.
    public var optimizerKeep: Int?
    /// Whether the newest snapshot gets an image.
    public var makesImage = true
    /// Put the new bytes in the place of a snapshot of the same run and step.
    public var replaces = false
    /// Read sources even when path, size, times and inode say they are unchanged.
    public var rehashes = false
    /// Whether a checkpoint that a policy has dropped is left out as of a series when it is named by itself too.
    package var leavesOutPruned = false
    /// What the history says they came from; nil: their path. With one the files are not known again by their path.
    package var origin: String?
    /// Snapshots, as `run@step`, whose files join this one, and which then leave the history.
    var joins: [String] = []

    public init() {}
}

/// What became of one checkpoint.
public struct IngestResult: Sendable {
    /// What became of it.
    public enum Outcome: Sendable, Equatable {
        /// A new snapshot.
        case stored
        /// Its bytes were in the store already; only the step is new.
        case known
        /// Recognised by its files' sizes and times, and not read.
        case unchanged
        /// One of a series that was in the store and that a policy has dropped since: not taken again. `id` is what it was.
        case pruned
    }

    /// Its path; of files at hand `run@step`.
    public var source: String
    public var run: String
    public var step: UInt64
    /// The snapshot's.
    public var id: ContentID
    public var outcome: Outcome
    /// Bytes of the checkpoint's files.
    public var rawBytes: UInt64
    /// Raw bytes of the blocks that were new.
    public var newBytes: UInt64
    /// Packed bytes of those.
    public var packedBytes: UInt64
    /// The image's directory, when one was made.
    public var image: String?
    /// Things worth saying: files kept without a look inside, values that were skipped.
    public var notes: [String]
    /// Snapshots, as `run@step`, that lost their optimizer state by `IngestOptions.optimizerKeep`.
    public var droppedOptimizers: [String] = []
}

/// How far an ingest has come.
public struct IngestProgress: Sendable {
    /// The path of the checkpoint under way.
    public var source: String
    /// The checkpoint under way, from 0, and their number.
    public var index: Int
    /// Checkpoints in all.
    public var count: Int
    /// Bytes read of this checkpoint, and its size.
    public var doneBytes: UInt64
    /// Bytes of this checkpoint.
    public var totalBytes: UInt64
    /// Raw bytes of blocks that were new.
    public var newBytes: UInt64
}

/// What an operation tells and asks its caller while it runs.
public struct Monitor: Sendable {
    /// Called as it goes on, from any thread of the operation.
    public var progress: @Sendable (IngestProgress) -> Void
    /// Called with each result as soon as it is committed.
    public var finished: @Sendable (IngestResult) -> Void
    /// True when the caller wants to stop. Asked a few times a second at least.
    public var isCancelled: @Sendable () -> Bool

    public init(
        progress: @escaping @Sendable (IngestProgress) -> Void = { _ in },
        finished: @escaping @Sendable (IngestResult) -> Void = { _ in },
        isCancelled: @escaping @Sendable () -> Bool = { false }
    ) {
        self.progress = progress
        self.finished = finished
        self.isCancelled = isCancelled
    }

    func checkCancelled() throws {
        if isCancelled() { throw StoreError(.interrupted, "interrupted") }
    }
}
