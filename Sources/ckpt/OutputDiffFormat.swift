import CheckpointReports
import CheckpointStore
import LanguageModel
import WeakTraining

/// What outputs became, sample by sample, as text and as JSON.
struct OutputDiffFormat {
    private let pair: PairEvaluation
    private let samples: [PairMeans]
    private let limit: Int
    private let words: SampleText
    private let totals: [Figure: Bootstrap]
    private let distribution: Distribution

    /// A figure of a sample, by its name in JSON.
    enum Figure: String, CaseIterable {
        case entropyWeak = "entropy_weak"
        case entropyStrong = "entropy_strong"
        case dh
        case nllWeak = "nll_weak"
        case nllStrong = "nll_strong"
        case dnll
        case top1Weak = "top1_weak"
        case top1Strong = "top1_strong"
        case dtop1
        case klStrongWeak = "kl_strong_weak"
        case klWeakStrong = "kl_weak_strong"
        case lnC = "ln_c"
        case hardNegatives = "hard_negatives"

        func value(_ means: PairMeans) -> Double {
            switch self {
            case .entropyWeak: means.weak.entropy
            case .entropyStrong: means.strong.entropy
            case .dh: means.dH
            case .nllWeak: means.weak.nll
            case .nllStrong: means.strong.nll
            case .dnll: means.strong.nll - means.weak.nll
            case .top1Weak: means.weak.top1
            case .top1Strong: means.strong.top1
            case .dtop1: means.strong.top1 - means.weak.top1
            case .klStrongWeak: means.klStrongWeak
            case .klWeakStrong: means.klWeakStrong
            case .lnC: means.lnC
            case .hardNegatives: means.hardNegatives
            }
        }
    }

    init(_ pair: PairEvaluation, _ samples: [PairMeans], limit: Int) {
        self.pair = pair
        self.samples = samples
        self.limit = limit
        words = SampleText(pair.probe.probe)
        totals = Dictionary(uniqueKeysWithValues: Figure.allCases.map { figure in (figure, Bootstrap(samples.map(figure.value))) })
        distribution = Distribution(samples.map(\.dH))
    }

    var text: String {
        let tokens = samples.reduce(0) { $0 + $1.strong.tokens }
        let head = Console.printable(
            "A \(pair.weak.ref), B \(pair.strong.ref), lambda \(pair.lambda): \(Format.count(samples.count, "sample")), \(tokens) scored tokens")
        var parts = [head + "\nnats per token, 95 % intervals over samples", ownTable + "\n\n" + pairTable, spread]
        let (sure, unsure) = (samples.filter { $0.dH < 0 }.sorted { $0.dH < $1.dH }, samples.filter { $0.dH > 0 }.sorted { $0.dH > $1.dH })
        if !sure.isEmpty { parts.append(list("became sure", sure)) }
        if !unsure.isEmpty { parts.append(list("became unsure", unsure)) }
        return parts.joined(separator: "\n\n")
    }

    private func interval(_ figure: Figure) -> [String] {
        let total = totals[figure]!
        return [Format.fixed(total.mean, 4), total.interval(of: samples.count)]
    }

    private var ownTable: String {
        var table = TextTable(
            [.init(title: "")] + ["A", "B", "B - A"].flatMap { [.init(title: $0, isNumber: true), .init(title: "INTERVAL")] })
        table.add(["entropy"] + interval(.entropyWeak) + interval(.entropyStrong) + interval(.dh))
        table.add(["nll"] + interval(.nllWeak) + interval(.nllStrong) + interval(.dnll))
        table.add(["top-1"] + interval(.top1Weak) + interval(.top1Strong) + interval(.dtop1))
        return table.text(width: Console.width)
    }

    private var pairTable: String {
        var table = TextTable([.init(title: ""), .init(title: "MEAN", isNumber: true), .init(title: "INTERVAL")])
        for (name, figure) in [("KL(B||A)", Figure.klStrongWeak), ("KL(A||B)", .klWeakStrong), ("ln C", .lnC), ("hard negatives", .hardNegatives)] {
            table.add([name] + interval(figure))
        }
        return table.text(width: Console.width)
    }

    private static let quantiles = [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]
    private static let binLimit = 10
    private static let barWidth = 40

    /// Quantiles and a histogram of dH.
    private var spread: String {
        let names = ["least", "5 %", "25 %", "median", "75 %", "95 %", "greatest"]
        var table = TextTable([.init(title: "DH")] + names.map { .init(title: $0, isNumber: true) })
        table.add([""] + OutputDiffFormat.quantiles.map { Format.fixed(distribution.quantile($0), 4) })
        let bins = distribution.bins(atMost: OutputDiffFormat.binLimit)
        let most = bins.map(\.count).max() ?? 1
        var histogram = TextTable([
            .init(title: "DH FROM", isNumber: true), .init(title: "TO", isNumber: true), .init(title: "SAMPLES", isNumber: true), .init(title: ""),
        ])
        for bin in bins {
            let width = (bin.count * OutputDiffFormat.barWidth + most - 1) / most
            histogram.add([Format.significant(bin.from), Format.significant(bin.to), "\(bin.count)", String(repeating: "#", count: width)])
        }
        return table.text(width: Console.width) + "\n\n" + histogram.text(width: Console.width)
    }

    private func list(_ title: String, _ samples: [PairMeans]) -> String {
        let titles = ["TOKENS", "H(A)", "H(B)", "DH", "NLL(A)", "NLL(B)", "TOP-1 A", "TOP-1 B", "KL(B||A)", "KL(A||B)", "LN C", "HARD"]
        var table = TextTable([.init(title: "SAMPLE", shrinks: true)] + titles.map { .init(title: $0, isNumber: true) })
        let shown = limit == 0 ? samples[...] : samples.prefix(limit)
        for sample in shown {
            let figures = Figure.allCases.filter { $0 != .dnll && $0 != .dtop1 }.map { Format.fixed($0.value(sample), 3) }
            table.add([sample.id, "\(sample.strong.tokens)"] + figures)
        }
        var lines = table.text(width: Console.width).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        for (index, sample) in shown.enumerated().reversed() {
            lines.insert("    " + words.excerpt(sample.sample, width: max(40, (Console.width ?? 120) - 4)), at: index + 2)
        }
        let more = shown.count < samples.count ? ", \(shown.count) shown (--limit 0 shows all)" : ""
        return "\(title): \(Format.count(samples.count, "sample"))\(more)\n" + lines.joined(separator: "\n")
    }

    func json() throws(StoreError) -> JSONOutput {
        .object(
            try OutputDiffFormat.head(pair) + [
                ("total", .object(Figure.allCases.map { ($0.rawValue, totals[$0]!.json) })),
                (
                    "dh_quantiles",
                    .array(OutputDiffFormat.quantiles.map { ["quantile": .double($0), "dh": .double(distribution.quantile($0))] })
                ),
                (
                    "dh_histogram",
                    .array(
                        distribution.bins(atMost: OutputDiffFormat.binLimit).map {
                            ["from": .double($0.from), "to": .double($0.to), "samples": .int($0.count)]
                        })
                ),
                ("cut_samples", .strings(pair.probe.cutSamples)),
                (
                    "samples",
                    .array(
                        samples.map { sample in
                            .object(
                                [("id", .string(sample.id)), ("tokens", .int(sample.strong.tokens))]
                                    + Figure.allCases.map { ($0.rawValue, .double($0.value(sample))) })
                        })
                ),
            ])
    }

    /// What is compared, as every JSON answer begins.
    static func head(_ pair: PairEvaluation) throws(StoreError) -> [(String, JSONOutput)] {
        func model(_ evaluation: EntropyEvaluation) throws(StoreError) -> JSONOutput {
            [
                "ref": .string(evaluation.ref), "snapshot": .string("\(evaluation.key.snapshot)"),
                "provenance": .texts(try evaluation.record()?.provenance ?? [:]),
            ]
        }
        return [
            ("probe", .string("\(pair.key.probe)")), ("weak", try model(pair.weak)), ("strong", try model(pair.strong)),
            // As it is in the settings: 0.42, not the nearest number in single precision.
            ("lambda", .double(Double("\(pair.lambda)")!)), ("settings", .texts(pair.key.settings)),
            ("provenance", .texts(try pair.record()?.provenance ?? [:])),
        ]
    }
}
