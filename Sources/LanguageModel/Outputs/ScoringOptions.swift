internal import CKernels

/// How samples are run.
public struct ScoringOptions: Sendable {
    /// Threads, each with a batch of its own; nil: one for each processor.
    public var threads: Int?
    /// Tokens of a batch, about. A sample that is longer is a batch of its own.
    public var batchTokens = 1024

    public init(threads: Int? = nil) { self.threads = threads }

    var threadCount: Int { min(max(1, threads ?? Int(ck_processor_count())), Int(ck_processor_count())) }
}
