package import CheckpointStore

extension IngestResult {
    /// As `ckpt ingest --json` has it.
    package var json: JSONOutput {
        let outcome =
            switch outcome {
            case .stored: "stored"
            case .known: "known"
            case .unchanged: "unchanged"
            case .pruned: "pruned"
            }
        return [
            "message_type": "snapshot", "source": .string(source), "run": .string(run),
            "step": .unsigned(step), "id": .string("\(id)"), "outcome": .string(outcome),
            "raw_bytes": .unsigned(rawBytes), "new_bytes": .unsigned(newBytes),
            "packed_bytes": .unsigned(packedBytes), "image": .optional(image),
            "notes": .strings(notes), "dropped_optimizers": .strings(droppedOptimizers),
        ]
    }
}
