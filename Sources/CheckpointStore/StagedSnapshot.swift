/// A copy of a snapshot's files to be changed and taken in as another snapshot. In the training area of the run that it joins, which it holds.
package final class StagedSnapshot: Sendable {
    private let store: Store
    private let area: TrainingArea
    private let run: String
    private let directory: String
    private let files = Locked<[String: OpenFile]>([:])

    /// Files that tell of a training, which the other snapshot has not been through.
    private static let ofATraining: Set<String> = ["trainer_state.json", "training_args.bin", "training_args.json", "ckpt_training.json"]

    /// Writes the files of `ref`, but for those of its optimizer and of its training.
    ///
    /// - Throws: `.noSuchRef`, `.damaged`, `.locked` when the run is being trained.
    package init(_ store: Store, of ref: String, run: String, monitor: Monitor = Monitor()) throws(StoreError) {
        self.store = store
        self.run = run
        area = try TrainingArea(store, run: run)
        directory = try area.makeStaging()
        do {
            try store.export(ref, to: directory, leavingOut: [.optimizer], monitor: monitor)
            try throwingStoreErrors {
                for name in try FileSystem.list(directory) where StagedSnapshot.ofATraining.contains(name) || name.hasPrefix("rng_state") || name.hasPrefix("scheduler") {
                    try FileSystem.removeFile(directory + "/" + name)
                }
            }
        } catch {
            try? remove()
            throw error
        }
    }

    deinit { try? remove() }

    private func remove() throws {
        try area.removeStaging()
        // One that only this has made.
        if !TrainingArea.exists(store, run: run) { try area.remove() }
    }

    /// Puts bytes in the place of those of `tensor` from its byte `offset` on. On any thread.
    package func write(_ bytes: UnsafeRawBufferPointer, to tensor: TensorEntry, at offset: UInt64) throws {
        let file = try files.withLock { files in
            if let file = files[tensor.file] { return file }
            let file = try OpenFile(changing: directory + "/" + tensor.file)
            files[tensor.file] = file
            return file
        }
        try file.write(bytes, at: tensor.fileOffset + offset)
    }

    /// Takes it in. The history says that it came from `origin`.
    package func ingest(_ options: IngestOptions, origin: String, monitor: Monitor = Monitor()) throws(StoreError) -> IngestResult {
        files.withLock { $0.removeAll() }
        var options = options
        (options.run, options.rehashes, options.origin) = (run, true, origin)
        guard let result = try store.ingest(directory, options: options, monitor: monitor).first else {
            throw StoreError(.failed, "\(run): nothing was taken in")
        }
        return result
    }
}
