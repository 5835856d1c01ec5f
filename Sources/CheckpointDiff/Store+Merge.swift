public import CheckpointStore

extension Store {
    /// Takes a weighted sum in as a snapshot: the files of `ref`, without its optimizer and what tells of its training, with the weights of the
    /// sum.
    ///
    /// - Parameters:
    ///   - ref: the first term, a snapshot of this store.
    ///   - run: the run that the snapshot joins.
    ///   - origin: what the history says it came from.
    ///   - progress: called with bytes done and all, of one term.
    /// - Throws: `StoreError`; nothing is changed then.
    /// - Complexity: O(terms x bytes), and as much room on the disk as one checkpoint meanwhile.
    public func merge(
        _ sum: WeightedSum, into ref: String, run: String, origin: String, options: IngestOptions = IngestOptions(),
        monitor: Monitor = Monitor(), progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> IngestResult {
        let staged = try StagedSnapshot(self, of: ref, run: run, monitor: monitor)
        try sum.write(monitor: monitor, progress: progress) { tensor, offset, bytes in try staged.write(bytes, to: tensor, at: offset) }
        return try staged.ingest(options, origin: origin, monitor: monitor)
    }
}
