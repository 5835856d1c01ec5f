internal import CheckpointStore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Collects outputs and writes them to their records from time to time: a commit costs an fsync.
struct OutputWriter {
    /// While results come, outputs are kept back at most this long, in seconds.
    private static let secondsBetweenWrites = 2.0

    private let store: Store
    /// Written in this order, so that a sample is in a later record only when it is in those before.
    private let keys: [EntropyKey]
    private var waiting: [[SampleOutputs]]
    private var written = OutputWriter.seconds

    init(_ store: Store, _ keys: [EntropyKey]) {
        self.store = store
        self.keys = keys
        waiting = keys.map { _ in [] }
    }

    /// - Parameter record: index of the key.
    mutating func add(_ outputs: SampleOutputs, to record: Int) { waiting[record].append(outputs) }

    mutating func writeNowAndThen() throws {
        if OutputWriter.seconds - written > OutputWriter.secondsBetweenWrites { try write() }
    }

    mutating func write() throws {
        for (index, key) in keys.enumerated() {
            try OutputWriter.append(waiting[index], to: key, store)
            waiting[index] = []
        }
        written = OutputWriter.seconds
    }

    /// Adds the samples that the record lacks. Figures of other batches may differ in the last bit: one that is there stays.
    private static func append(_ outputs: [SampleOutputs], to key: EntropyKey, _ store: Store) throws(StoreError) {
        while true {
            let record = try store.entropyRecord(key)
            let missing = outputs.filter { record?.contains($0.sample) != true }
            if missing.isEmpty { return }
            do throws(StoreError) {
                return try store.appendOutputs(missing, to: key)
            } catch {
                // Another process may have added one of them since the record was read.
                guard error.code == .conflict, try store.entropyRecord(key) != record else { throw error }
            }
        }
    }

    private static var seconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// How far a computation is, in scored tokens.
public struct ScoringProgress: Sendable {
    /// Tokens whose figures are there.
    public var doneTokens: UInt64
    /// Tokens that were missing when it began.
    public var totalTokens: UInt64
}
