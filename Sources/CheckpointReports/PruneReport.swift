package import CheckpointStore

/// What a policy came to: a plan, and what was done of it.
package struct PruneReport {
    package let plan: RetentionPlan
    /// Of a dry run, by samples.
    package let forecast: RebasingResult?
    package let result: PruneResult?

    /// What could not be done.
    package var warnings: [String] {
        let damage = (result?.rebasing ?? forecast)?.damage
        return plan.warnings + (damage.map { ["not all was re-based: \($0) (hint: ckpt verify --repair)"] } ?? [])
    }

    package init(plan: RetentionPlan, forecast: RebasingResult? = nil, result: PruneResult? = nil) {
        self.plan = plan
        self.forecast = forecast
        self.result = result
    }

    /// As `ckpt prune --json` has it.
    package var json: JSONOutput {
        let rebasing = result?.rebasing ?? forecast
        return [
            "dry_run": .bool(result == nil),
            "rows": .array(
                plan.rows.map { row in
                    [
                        "ref": .string(row.ref), "run": .string(row.entry.run), "step": .unsigned(row.entry.step), "id": .string("\(row.entry.id)"),
                        "kept": .bool(row.isKept), "reasons": .strings(row.reasons), "gap_value": row.value.map { .double($0) } ?? .null,
                        "marginal": row.marginal.map { .double($0) } ?? .null, "note": .optional(row.note), "bytes_freed": .unsigned(row.freedBytes),
                    ]
                }),
            "optimizers": .array(plan.optimizers.map { ["ref": .string($0.ref), "id": .string("\($0.id)"), "bytes_freed": .unsigned($0.freedBytes)] }),
            "dropped": .int(plan.dropped.count),
            "bytes_freed": .unsigned(result?.freedBytes ?? plan.freedBytes + (forecast?.savedBytes ?? 0)),
            "blocks_freed": result.map { .int($0.freedBlocks) } ?? .null,
            "rebasing": rebasing.map { rebasing in
                [
                    "blocks": .int(rebasing.blocks), "raw_bytes": .unsigned(rebasing.rawBytes), "grown_bytes": .int(Int(rebasing.grownBytes)),
                        "freed_blocks": .int(rebasing.freedBlocks), "freed_bytes": .unsigned(rebasing.freedBytes),
                        "hidden_blocks": .int(rebasing.hiddenBlocks), "hidden_bytes": .unsigned(rebasing.hiddenBytes),
                    ]
                } ?? .null,
            "returned_bytes": result.map { .unsigned($0.returnedBytes) } ?? .null,
            "reusable_bytes": result.map { .unsigned($0.reusableBytes) } ?? .null,
            "warnings": .strings(warnings),
        ]
    }
}
