import CheckpointReports
import CheckpointStore

/// Probes as JSON.
enum ProbeFormat {
    static func json(_ probe: ProbeSummary) -> JSONOutput {
        [
            "name": .string(probe.name), "id": .string("\(probe.id)"), "samples": .int(probe.samples), "tokens": .int(probe.tokens),
            "supervised_tokens": .int(probe.supervisedTokens), "entropy_records": .int(probe.records),
            "probe_bytes": .unsigned(probe.bytes), "created": .string(Timestamp.text(probe.created)),
        ]
    }

    static func json(_ sample: ProbeSample) -> JSONOutput {
        [
            "id": .string(sample.id), "input_ids": .array(sample.tokens.map { .int(Int($0)) }),
            "supervised": .array(sample.supervised.map { [.int($0.lowerBound), .int($0.upperBound)] }),
            "prompt": .optional(sample.prompt), "completion": .optional(sample.completion),
        ]
    }
}
