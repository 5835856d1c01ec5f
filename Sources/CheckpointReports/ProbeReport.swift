package import CheckpointStore

extension ProbeSummary {
    /// As `ckpt probe ls --json` has it.
    package var json: JSONOutput {
        [
            "name": .string(name), "id": .string("\(id)"), "samples": .int(samples), "tokens": .int(tokens),
            "supervised_tokens": .int(supervisedTokens), "entropy_records": .int(records),
            "probe_bytes": .unsigned(bytes), "created": .string(Timestamp.text(created)),
        ]
    }
}

extension ProbeSample {
    /// A row of `ckpt probe show --json`.
    package var json: JSONOutput {
        [
            "id": .string(id), "input_ids": .array(tokens.map { .int(Int($0)) }),
            "supervised": .array(supervised.map { [.int($0.lowerBound), .int($0.upperBound)] }),
            "prompt": .optional(prompt), "completion": .optional(completion),
        ]
    }
}

extension EntropyRecord {
    /// A record of `ckpt probe show --json`.
    ///
    /// - Parameter ref: what the snapshot is called.
    package func json(ref: String?) -> JSONOutput {
        [
            "id": .string("\(key.id)"), "snapshot": .string("\(key.snapshot)"),
            "ref": .optional(ref), "settings": .texts(key.settings),
            "columns": .strings(columns.map(\.name)), "samples_done": .int(samplesDone),
            "samples_total": .int(samplesTotal), "tokens": .int(tokens), "record_bytes": .unsigned(bytes),
            "provenance": .texts(provenance), "created": .string(Timestamp.text(created)),
        ]
    }
}
