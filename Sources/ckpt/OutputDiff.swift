import ArgumentParser
import CheckpointReports
import CheckpointStore
import LanguageModel

/// What `ckpt diff` takes to compare outputs.
struct OutputDiffArguments: ParsableArguments {
    @Option(help: ArgumentHelp("Compare outputs on this probe, not weights: its name, or a unique prefix of its id.", valueName: "name"), completion: .probe)
    var probe: String?
    @Option(help: ArgumentHelp("Show one sample of the probe token by token.", valueName: "id"))
    var tokens: String?
    @Option(help: ArgumentHelp("B's share in the mixed logits, above 0 and below 1 (default: 0.5).", valueName: "share"))
    var lambda: Float?
    @OptionGroup var limits: ScoringLimits

    func validate() throws {
        // Written so that NaN is refused too.
        guard lambda ?? 0.5 > 0, lambda ?? 0.5 < 1 else { throw ValidationError("--lambda is greater than 0 and less than 1") }
        if probe == nil, tokens != nil || lambda != nil || limits.maxLength != nil || limits.threads != nil {
            throw ValidationError("--tokens, --lambda, --max-length and --threads need --probe")
        }
    }
}

/// `ckpt diff --probe`: what the outputs of B, the strong snapshot, became sure or unsure of against A, the weak one.
struct OutputDiff {
    static let help = """
        With --probe the weights are not compared: both snapshots are run on the probe, and A counts as the weak (earlier) one, B as
        the strong one. H is the entropy of the distribution that predicts a token, DH = H(B) - H(A): below zero B became sure,
        above it unsure; the samples of both kinds are listed, the greatest change first. KL(B||A) is the mean of ln P_B - ln P_A
        under B. LN C is the logarithm of the sum of P_A^(1 - lambda) P_B^lambda: 0 when both agree. HARD is the share of
        the wrong tokens whose logit is nearer to the right one's in A than in B. All in nats per token, averaged over a
        sample's tokens, then over samples, with 95 % bootstrap intervals over samples. Figures are kept as they come:
        interrupted, the same command goes on; what ckpt entropy has kept is used. A and B must be in the
        store. (--json has all samples, whatever --limit.)
        """

    private let pair: PairEvaluation
    private let sample: Int?

    /// Computes what the store lacks.
    init(
        _ store: Store, weak: String, strong: String, probe name: String, _ arguments: OutputDiffArguments
    ) throws(StoreError) {
        let probe = try EntropyRunner.probe(store, name, arguments.limits)
        pair = try PairEvaluation(
            store, weak: weak, strong: strong, probe, lambda: arguments.lambda ?? 0.5, arguments.limits.options)
        sample = try arguments.tokens.map { (id) throws(StoreError) in
            guard let index = probe.probe.samples.firstIndex(where: { $0.id == id }) else {
                throw StoreError(.noSuchRef, "\(id): no sample of probe \(name) has this id", hint: "ckpt probe show \(name) --limit 0 lists them")
            }
            return index
        }
        try EntropyRunner.complete(pair, sample: sample)
        for (what, record) in [
            ("the figures of \(weak)", try pair.weak.record()), ("the figures of \(strong)", try pair.strong.record()),
            ("KL, ln C and hard negatives of \(weak) and \(strong)", try pair.record()),
        ] { Provenance.note(what, record) }
    }

    func answer(limit: Int?, json: Bool) throws(StoreError) -> String {
        if let sample {
            let format = TokenDiffFormat(pair, sample, try pair.tokens(sample), limit: limit ?? 0)
            return try json ? format.json().text : format.text
        }
        let format = OutputDiffFormat(pair, try pair.outputs(), limit: limit ?? 5)
        return try json ? format.json().text : format.text
    }
}
