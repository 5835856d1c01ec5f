internal import CheckpointStore

/// Collects outputs and writes them to their records from time to time: a commit costs an fsync.
struct OutputWriter {
    /// A record, and what it is begun with when its first outputs come.
    struct Target {
        var key: EntropyKey
        var columns: Set<EntropyColumn>
        var provenance: [String: String]
    }

    /// While results come, outputs are kept back at most this long.
    private static let timeBetweenWrites = Duration.seconds(2)

    private let store: Store
    /// Written in this order, so that a sample is in a later record only when it is in those before.
    private let targets: [Target]
    private var waiting: [[SampleOutputs]]
    private var written = ContinuousClock.now

    private init(_ store: Store, _ targets: [Target]) {
        self.store = store
        self.targets = targets
        waiting = targets.map { _ in [] }
    }

    /// Calls `body` with a writer. What it was given is in the store afterwards, also when `body` fails.
    static func write(
        to targets: [Target], of store: Store, _ body: (inout OutputWriter) throws -> Void
    ) throws {
        var writer = OutputWriter(store, targets)
        do {
            try body(&writer)
        } catch {
            try writer.write()
            throw error
        }
        try writer.write()
    }

    /// - Parameter target: index of the record.
    mutating func add(_ outputs: SampleOutputs, to target: Int) { waiting[target].append(outputs) }

    mutating func writeNowAndThen() throws {
        if ContinuousClock.now - written > OutputWriter.timeBetweenWrites { try write() }
    }

    private mutating func write() throws {
        for (index, target) in targets.enumerated() {
            try OutputWriter.append(waiting[index], to: target, store)
            waiting[index] = []
        }
        written = ContinuousClock.now
    }

    /// Adds the samples that the record lacks. Figures of other batches may differ in the last bit: one that is there stays.
    private static func append(_ outputs: [SampleOutputs], to target: Target, _ store: Store) throws(StoreError) {
        guard !outputs.isEmpty else { return }
        while true {
            let record = try store.beginEntropyRecord(target.key, columns: target.columns, provenance: target.provenance)
            let missing = outputs.filter { !record.contains($0.sample) }
            if missing.isEmpty { return }
            do throws(StoreError) {
                return try store.appendOutputs(missing, to: target.key)
            } catch {
                // Another process may have added one of them since the record was read.
                guard error.code == .conflict, try store.entropyRecord(target.key) != record else { throw error }
            }
        }
    }
}
