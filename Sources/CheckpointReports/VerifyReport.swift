package import CheckpointStore

extension VerifyReport {
    /// As `ckpt verify --json` has it.
    package var json: JSONOutput {
        [
            "ok": .bool(problems.isEmpty), "snapshots": .int(snapshots), "blocks": .int(blocks),
            "hashed_bytes": .unsigned(bytes), "images": .int(images),
            "probes": .int(probes), "entropy_records": .int(entropyRecords), "pages": .unsigned(pages),
            "free_pages": .unsigned(freePages), "pending": .int(pending),
            "notes": .strings(notes),
            "problems": .array(
                problems.map {
                    ["reason": .string($0.reason), "snapshots": .strings($0.snapshots), "tensors": .strings($0.tensors)]
                }),
        ]
    }
}
