import CheckpointStore
import LanguageModel

/// The text of tokens that models name, where it is known.
struct TokenText {
    private let pieces: [Int32: [UInt8]]
    private let tokenizer: Tokenizer?

    /// Tokens that are likely but occur in no sample have no piece in the probe: a snapshot's own tokenizer knows them, if it
    /// is the one that made the probe.
    init(_ pair: PairEvaluation) {
        let probe = pair.probe.probe
        pieces = probe.pieces
        tokenizer = probe.tokenizer.flatMap { id in
            [pair.strong, pair.weak].lazy.compactMap { TokenText.tokenizer(of: $0, id) }.first
        }
    }

    /// Nil where there is none of this id, or it cannot be read: ids are shown then.
    private static func tokenizer(of model: EntropyEvaluation, _ id: ContentID) -> Tokenizer? {
        guard let bytes = try? model.store.contents(model.ref).sidecars.contents("tokenizer.json"), ContentID.hash(of: bytes) == id else { return nil }
        return try? Tokenizer(json: bytes, path: "\(model.ref)/tokenizer.json")
    }

    /// Nil when unknown. Bytes that are no whole character become U+FFFD.
    func piece(_ token: Int32) -> String? {
        guard let bytes = pieces[token] ?? tokenizer?.piece(token), !bytes.isEmpty else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// In quotes, so that spaces are seen; the id when unknown.
    func shown(_ token: Int32) -> String { piece(token).map { "\"\($0)\"" } ?? "\(token)" }
}
