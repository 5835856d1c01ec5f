internal import CheckpointStore
internal import LanguageModel
internal import TensorFormats

extension Trainer {
    /// The models of a round, and what trains them.
    struct RoundModels {
        var strong: TrainedModel
        var weak: TrainedModel?
        /// With `weak`: read once, so that its snapshot may go meanwhile.
        var weakFiles: (files: InheritedFiles, dtypes: [String: DType])?
        var optimizer: AdamW?

        var branches: [ResumeState.Branch] {
            (optimizer?.models ?? []).enumerated().map { ($0 == 0 ? "strong" : "weak", $1.model, $1.moments) }
        }
    }

    /// Writes what is to be gone on from, in the place of what was: before the first step no weights, which can be had anew.
    func writeState(_ models: RoundModels) throws(StoreError) {
        let state = ResumeState(settings: settings.json.text, progress: progress.json.text, kernels: Trainer.kernels)
        try state.write(models.branches, to: area.statePath, team)
    }

    /// Takes a snapshot of each trained model into the store, then writes the state.
    func save(_ models: RoundModels) throws {
        // No multiple of the interval lies between the round's start and this step.
        let isFirstOfRound = max(0, progress.step - 1) / settings.saveInterval == progress.earlierSteps / settings.saveInterval
        var metrics: [(name: String, value: Double)] = []
        let start: ContentID? = if case .snapshot(let id) = settings.start { id } else { nil }
        let isFirst = isFirstOfRound && progress.round == 0
        let result = try ingest(models.strong, .strong, run: settings.run, parent: isFirst ? start : nil, files, dtypes) { directory in
            metrics = try settings.evaluation == nil ? [] : host.evaluate(directory)
            return metrics
        }
        var weakID: ContentID?
        if let weak = models.weak {
            let parent = progress.weaks[0]
            weakID = try ingest(
                weak, .weak, run: settings.weakRun, parent: isFirstOfRound ? parent : nil, models.weakFiles!.files, models.weakFiles!.dtypes
            ) { _ in [] }.id
        }
        if models.optimizer != nil { try writeState(models) }
        let saved = SavedSnapshot(
            ref: "\(settings.run)@\(progress.step)", id: result.id, weak: weakID, step: progress.step, metrics: metrics,
            rawBytes: result.rawBytes, packedBytes: result.packedBytes)
        logs.forEach { $0.add(saved.json) }
        host.saved(saved)
    }

    /// Those of a trained weak model are its own: it may be of another architecture, or of other dtypes.
    func weakFiles(_ id: ContentID) throws -> (files: InheritedFiles, dtypes: [String: DType]) {
        var dtypes: [String: DType] = [:]
        for tensor in try contents(id).tensors where tensor.part == .weights { dtypes[tensor.name] = settings.dtype ?? tensor.dtype }
        var files = try InheritedFiles(store.sidecars("\(id)"))
        if Set(dtypes.values).count == 1 { files.setDType(dtypes.first!.value) }
        return (files, dtypes)
    }

    private func ingest(
        _ model: TrainedModel, _ branch: TrainedBranch, run: String, parent: ContentID?, _ files: InheritedFiles, _ dtypes: [String: DType],
        evaluate: (String) throws -> [(name: String, value: Double)]
    ) throws -> IngestResult {
        let directory = try area.makeStaging()
        // As large as the model, and of no use any more.
        defer { try? area.removeStaging() }
        let tensors = model.weights.map { weight in
            SafetensorsFile.Tensor(name: weight.name, dtype: dtypes[weight.name] ?? .f32, shape: weight.shape, values: weight.values)
        }
        try SafetensorsFile.write(tensors, metadata: [("format", "pt")], to: directory + "/model.safetensors")
        for file in files.files { try DurableFile.write(file.bytes, to: "\(directory)/\(file.name)") }
        let metrics = try evaluate(directory)
        let note = TrainingNote(
            settings: settings, branch: branch, step: progress.step, round: progress.round, strong: progress.strong,
            weaks: progress.weaks, share: progress.share, metrics: metrics)
        try DurableFile.write(Array((note.json.text + "\n").utf8), to: "\(directory)/\(TrainingNote.fileName)")
        var options = IngestOptions()
        (options.run, options.step, options.parent) = (run, UInt64(progress.step), parent.map { "\($0)" })
        (options.rehashes, options.origin) = (true, "ckpt train")
        guard let result = try store.ingest(directory, options: options).first else {
            throw StoreError(.failed, "\(run)@\(progress.step): nothing was taken in")
        }
        return result
    }
}
