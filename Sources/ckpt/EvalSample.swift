import CheckpointStore
import LanguageModel

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A sample that a model is evaluated on.
struct EvalSample {
    let id: String
    /// Tokens before the first supervised one.
    let prompt: [Int32]
    let scoring: ScoringSample
    private let text: String?
    private let target: [Int32]

    init(_ sample: ProbeSample) {
        id = sample.id
        prompt = Array(sample.tokens[..<sample.supervised[0].lowerBound])
        scoring = ScoringSample(tokens: sample.tokens, supervised: sample.supervised, name: sample.id)
        text = sample.completion
        target = Array(sample.tokens[sample.supervised[0].lowerBound...])
    }

    private init(_ other: EvalSample, scoring: ScoringSample) {
        (id, prompt, text, target) = (other.id, other.prompt, other.text, other.target)
        self.scoring = scoring
    }

    /// The text of the reference.
    func completion(_ tokenizer: SampleTokenizer) -> String { text ?? tokenizer.text(target) }

    /// Read only up to a length, where something supervised is left by then.
    func cut(_ length: Int) -> EvalSample {
        guard scoring.tokens.count > length else { return self }
        var scoring = scoring
        scoring.tokens = Array(scoring.tokens[..<length])
        scoring.supervised = scoring.supervised.map { $0.clamped(to: 1..<length) }.filter { !$0.isEmpty }
        return EvalSample(self, scoring: scoring)
    }

    /// The samples of a file, by the model's own tokenizer, or those of a probe.
    static func read(_ source: String, _ model: ModelSource, _ options: StoreOptions) throws(StoreError) -> [EvalSample] {
        guard access(source, F_OK) == 0 else { return try options.open().probe(source).probe.samples.map(EvalSample.init) }
        var samples: [EvalSample] = []
        for line in try ProbeFile.read(source) {
            if let sample = line.sample {
                samples.append(EvalSample(sample))
                continue
            }
            let tokenizer = try model.neededTokenizer()
            do throws(LanguageModelError) {
                samples.append(EvalSample(try tokenizer.sample(line)))
            } catch {
                throw StoreError(running: error, line.place)
            }
        }
        return samples
    }
}

/// What a model made of a sample.
struct EvalOutcome {
    var id: String
    var answer: String?
    var expected: String
    var text: String
    var tokens: Int

    var isRight: Bool { answer == expected }
}

/// What is known of one model.
struct EvalRow {
    var name: String
    var samples: Int
    var outcomes: [EvalOutcome]?
    var passAt: (k: Int, share: Share)?
    var calibration: Calibration?
    /// At the temperature that was fitted.
    var calibrated: Calibration?

    init(name: String, samples: Int) {
        self.name = name
        self.samples = samples
    }

    private var accuracy: Share? { outcomes.map { Share(count: $0.count(where: \.isRight), total: $0.count) } }

    static func table(_ rows: [EvalRow]) -> TextTable {
        let hasAccuracy = rows.contains { $0.outcomes != nil }
        let pass = rows.compactMap(\.passAt).first
        let hasFit = rows.contains { $0.calibrated != nil }
        var columns: [TextTable.Column] = [.init(title: "MODEL", shrinks: true), .init(title: "SAMPLES", isNumber: true)]
        if hasAccuracy { columns += [.init(title: "ACCURACY", isNumber: true), .init(title: "INTERVAL")] }
        if let pass { columns.append(.init(title: "PASS@\(pass.k)", isNumber: true)) }
        columns += ["NLL", "BRIER", "ECE", "ENTROPY", "P(Y)"].map { .init(title: $0, isNumber: true) }
        if hasFit { columns += ["T", "NLL AT T", "ECE AT T"].map { .init(title: $0, isNumber: true) } }
        var table = TextTable(columns)
        for row in rows {
            var cells = [row.name, "\(row.samples)"]
            if let accuracy = row.accuracy {
                let interval = accuracy.interval
                cells += [
                    "\(Format.fixed(100 * accuracy.value, 1)) %", "\(Format.fixed(100 * interval.low, 1)) to \(Format.fixed(100 * interval.high, 1))",
                ]
            }
            if let pass = row.passAt { cells.append("\(Format.fixed(100 * pass.share.value, 1)) %") }
            if let figures = row.calibration {
                cells += [figures.nll, figures.brier, figures.ece, figures.entropy, figures.probability].map { Format.fixed($0, 4) }
            }
            if let fitted = row.calibrated { cells += [fitted.temperature, fitted.nll, fitted.ece].map { Format.fixed($0, 4) } }
            table.add(cells)
        }
        return table
    }

    func json(perSample: Bool) -> JSONOutput {
        var members: [(String, JSONOutput)] = [("ref", .string(name)), ("samples", .int(samples))]
        if let accuracy {
            members += [
                ("right", .int(accuracy.count)), ("accuracy", .double(accuracy.value)), ("accuracy_low", .double(accuracy.interval.low)),
                ("accuracy_high", .double(accuracy.interval.high)),
            ]
        }
        if let passAt {
            members += [("pass_k", .int(passAt.k)), ("pass_at", .double(passAt.share.value))]
        }
        if let figures = calibration {
            members += [
                ("tokens", .int(figures.tokens)), ("nll", .double(figures.nll)), ("brier", .double(figures.brier)), ("ece", .double(figures.ece)),
                ("entropy", .double(figures.entropy)), ("mean_p", .double(figures.probability)), ("top1", .double(figures.topAccuracy)),
            ]
        }
        if let fitted = calibrated {
            members += [
                ("temperature", .double(fitted.temperature)), ("calibrated_nll", .double(fitted.nll)),
                ("calibrated_brier", .double(fitted.brier)), ("calibrated_ece", .double(fitted.ece)),
            ]
        }
        if perSample, let outcomes {
            members.append(
                (
                    "rows",
                    .array(
                        outcomes.map { outcome in
                            [
                                "id": .string(outcome.id), "right": .bool(outcome.isRight), "answer": .optional(outcome.answer),
                                "expected": .string(outcome.expected), "tokens": .int(outcome.tokens), "text": .string(outcome.text),
                            ]
                        })
                ))
        }
        return .object(members)
    }
}
