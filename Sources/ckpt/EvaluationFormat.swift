import CheckpointReports
import LanguageModel

/// The results of `ckpt eval`, as text and as JSON.
struct EvaluationFormat {
    var results: [ModelEvaluation]
    /// K of pass@K.
    var attempts: Int?
    var perSample: Bool

    var text: String {
        let first = results[0]
        var parts = ["\(Format.count(first.count, "sample")), \(Format.count(first.plain.tokens, "supervised token")); nats per token"]
        if results.contains(where: { $0.samples != nil }) { parts.append("\n" + answers) }
        parts.append("\n" + probabilities)
        if perSample { parts += results.map { "\n" + samples($0) } }
        return parts.joined(separator: "\n")
    }

    private var answers: String {
        var columns: [TextTable.Column] = [
            .init(title: "MODEL", shrinks: true), .init(title: "RIGHT", isNumber: true), .init(title: "ACCURACY", isNumber: true),
            .init(title: "INTERVAL"),
        ]
        if let attempts { columns.append(.init(title: "PASS@\(attempts)", isNumber: true)) }
        var table = TextTable(columns)
        for result in results {
            let right = result.right ?? 0
            let interval = WilsonInterval(right, of: result.count)
            var row = [
                result.ref, "\(right) of \(result.count)", Format.percent(UInt64(right), of: UInt64(result.count)),
                "\(Format.fixed(100 * interval.low, 1)) to \(Format.fixed(100 * interval.high, 1)) %",
            ]
            if attempts != nil { row.append(Format.percent(UInt64(result.passed ?? 0), of: UInt64(result.count))) }
            table.add(row)
        }
        return table.text(width: Console.width)
    }

    private var probabilities: String {
        var table = TextTable([
            .init(title: "MODEL", shrinks: true), .init(title: "T", isNumber: true), .init(title: "NLL", isNumber: true),
            .init(title: "BRIER", isNumber: true), .init(title: "ECE", isNumber: true), .init(title: "ENTROPY", isNumber: true),
            .init(title: "MEAN P", isNumber: true),
        ])
        for result in results {
            let rows = [(1.0, result.plain)] + (result.calibrated.map { [(result.temperature ?? 1, $0)] } ?? [])
            for (temperature, summary) in rows {
                table.add(
                    [result.ref, Format.fixed(temperature, 3)]
                        + [summary.nll, summary.brier, summary.ece, summary.entropy, summary.meanP].map { Format.fixed($0, 4) })
            }
        }
        return table.text(width: Console.width)
    }

    private func samples(_ result: ModelEvaluation) -> String {
        var table = TextTable([
            .init(title: "SAMPLE", shrinks: true), .init(title: "RIGHT"), .init(title: "ANSWER", shrinks: true),
            .init(title: "EXPECTED", shrinks: true), .init(title: "TOKENS", isNumber: true), .init(title: "TEXT", shrinks: true),
        ])
        for sample in result.samples ?? [] {
            table.add([
                sample.id, sample.isRight ? "yes" : "no", sample.answer.map(SampleText.line) ?? "none", SampleText.line(sample.expected),
                "\(sample.tokens)", SampleText.line(sample.text),
            ])
        }
        return Console.printable(result.ref) + "\n" + table.text(width: Console.width)
    }

    var json: JSONOutput { ["results": .array(results.map(json))] }

    private func json(_ result: ModelEvaluation) -> JSONOutput {
        func number(_ value: Double?) -> JSONOutput { value.map { .double($0) } ?? .null }
        let right = result.right
        let interval = right.map { WilsonInterval($0, of: result.count) }
        let count = Double(result.count)
        var members: [(String, JSONOutput)] = [
            ("ref", .string(result.ref)), ("step", result.step.map { .unsigned($0) } ?? .null), ("samples", .int(result.count)),
            ("tokens", .int(result.plain.tokens)), ("right", right.map { .int($0) } ?? .null),
            ("accuracy", number(right.map { Double($0) / count })), ("accuracy_low", number(interval?.low)),
            ("accuracy_high", number(interval?.high)), ("pass_k", attempts.map { .int($0) } ?? .null),
            ("pass_at", number(result.passed.map { Double($0) / count })), ("nll", .double(result.plain.nll)),
            ("brier", .double(result.plain.brier)), ("ece", .double(result.plain.ece)), ("entropy", .double(result.plain.entropy)),
            ("mean_p", .double(result.plain.meanP)), ("temperature", number(result.temperature)),
            ("calibrated_nll", number(result.calibrated?.nll)), ("calibrated_brier", number(result.calibrated?.brier)),
            ("calibrated_ece", number(result.calibrated?.ece)),
        ]
        if perSample, let samples = result.samples {
            let rows = samples.map { sample -> JSONOutput in
                [
                    "id": .string(sample.id), "right": .bool(sample.isRight), "answer": .optional(sample.answer),
                    "expected": .string(sample.expected), "tokens": .int(sample.tokens), "text": .string(sample.text),
                ]
            }
            members.append(("per_sample", .array(rows)))
        }
        return .object(members)
    }
}
