import CheckpointReports
import CheckpointStore
import LanguageModel

/// What two snapshots say about one sample, token by token, as text and as JSON.
struct TokenDiffFormat {
    private let pair: PairEvaluation
    private let sample: Int
    private let tokens: [TokenPair]
    private let limit: Int
    private let words: TokenText

    init(_ pair: PairEvaluation, _ sample: Int, _ tokens: [TokenPair], limit: Int) {
        self.pair = pair
        self.sample = sample
        self.tokens = tokens
        self.limit = limit
        words = TokenText(pair)
    }

    private var id: String { pair.probe.probe.samples[sample].id }

    var text: String {
        let titles = ["H(A)", "H(B)", "DH", "NLL(A)", "NLL(B)"]
        let more = ["KL(B||A)", "KL(A||B)", "LN C", "HARD"]
        var table = TextTable(
            [.init(title: "POSITION", isNumber: true), .init(title: "TOKEN")] + titles.map { .init(title: $0, isNumber: true) }
                + [.init(title: "TOP-1 A"), .init(title: "TOP-1 B")] + more.map { .init(title: $0, isNumber: true) })
        let shown = limit == 0 ? tokens[...] : tokens.prefix(limit)
        for token in shown {
            let own = [token.weak.entropy, token.strong.entropy, token.dH, token.weak.nll, token.strong.nll]
            let both = [token.klStrongWeak, token.klWeakStrong, token.lnC, token.hardNegatives]
            table.add(
                ["\(token.position)", words.shown(token.token)] + own.map { Format.fixed($0, 3) }
                    + [words.shown(token.weak.top), words.shown(token.strong.top)] + both.map { Format.fixed($0, 3) })
        }
        let head = "sample \(id): A \(pair.weak.ref), B \(pair.strong.ref), lambda \(pair.lambda); \(Format.count(tokens.count, "scored token")), in nats"
        var lines = [Console.printable(head), "    " + SampleText(pair.probe.probe).excerpt(sample, width: max(40, (Console.width ?? 120) - 4))]
        lines += ["", table.text(width: Console.width)]
        if shown.count < tokens.count { lines.append("\(tokens.count - shown.count) more (--limit 0 shows all)") }
        return lines.joined(separator: "\n")
    }

    func json() throws(StoreError) -> JSONOutput {
        .object(try OutputDiffFormat.head(pair) + [("id", .string(id)), ("tokens", .array(tokens.map(row)))])
    }

    private func row(_ token: TokenPair) -> JSONOutput {
        [
            "position": .int(token.position), "token": .int(Int(token.token)), "piece": .optional(words.piece(token.token)),
            "entropy_weak": .double(token.weak.entropy), "entropy_strong": .double(token.strong.entropy), "dh": .double(token.dH),
            "nll_weak": .double(token.weak.nll), "nll_strong": .double(token.strong.nll),
            "top1_weak": .int(Int(token.weak.top)), "top1_weak_piece": .optional(words.piece(token.weak.top)),
            "top1_strong": .int(Int(token.strong.top)), "top1_strong_piece": .optional(words.piece(token.strong.top)),
            "kl_strong_weak": .double(token.klStrongWeak), "kl_weak_strong": .double(token.klWeakStrong), "ln_c": .double(token.lnC),
            "hard_negatives": .double(token.hardNegatives),
        ]
    }
}
