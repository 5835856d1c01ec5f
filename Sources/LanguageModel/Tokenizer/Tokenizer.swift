internal import Synchronization

/// A byte-pair tokenizer as a `tokenizer.json` of Hugging Face's `tokenizers` describes it, with the ids that this
/// library gives.
///
/// Known are the pipelines of GPT-2, GPT-NeoX, OLMo, Llama 2 to 4, Mistral, Qwen and Gemma. Every other part is
/// refused by its name, never guessed. Truncation and padding in the file are for batches and count for nothing here,
/// as in transformers.
///
/// A tokenizer may be used from several threads at once.
public final class Tokenizer: Sendable {
    let file: TokenizerFile
    /// Memory of encodings that have ended, for the next ones: one for each thread there was at a time.
    private let idle = Mutex<[EncodingScratch]>([])
    private let maximumID: Int32

    /// - Parameters:
    ///   - bytes: the whole file.
    ///   - path: the file, as errors name it.
    /// - Throws: `.malformed` where the bytes are no tokenizer, with the byte; `.unsupported` for a model, normalizer,
    ///   pre-tokenizer, pattern or decoder that is not known, by its name.
    /// - Complexity: O(n) in the bytes, in time and memory.
    public init(json bytes: [UInt8], path: String) throws(LanguageModelError) {
        file = try bytes.withUnsafeBufferPointer { (bytes) throws(LanguageModelError) in
            try TokenizerFile(bytes, path: path)
        }
        maximumID = max(Int32(file.model.vocabulary.idCount) - 1, file.added.tokens.map(\.id).max() ?? -1)
    }

    /// One more than the greatest id. An id below it may be nobody's.
    public var vocabularyCount: Int { Int(maximumID) + 1 }

    /// The special tokens that `encode` puts before a text, such as a beginning of sequence.
    public var tokensBefore: [Int32] { file.template.before }

    /// The special tokens that `encode` puts after a text.
    public var tokensAfter: [Int32] { file.template.after }

    /// The tokens of a text.
    ///
    /// - Parameters:
    ///   - text: of any length up to 2 GiB. Added tokens are found in it, special ones too.
    ///   - addSpecialTokens: puts `tokensBefore` and `tokensAfter` around it.
    /// - Complexity: O(n log n) in the longest word, O(n) in the rest.
    public func encode(_ text: String, addSpecialTokens: Bool) -> [Int32] {
        var text = text
        return text.withUTF8 { encode($0, addSpecialTokens: addSpecialTokens) }
    }

    /// The tokens of bytes that need not be UTF-8: what is none becomes U+FFFD first, as Python's
    /// `decode("utf-8", errors="replace")` does it.
    ///
    /// - Complexity: as of a string.
    public func encode(utf8 bytes: [UInt8], addSpecialTokens: Bool) -> [Int32] {
        bytes.withUnsafeBufferPointer { bytes in
            if UTF8Text.validPrefix(bytes) == bytes.count { return encode(bytes, addSpecialTokens: addSpecialTokens) }
            return UTF8Text.repaired(bytes).withUnsafeBufferPointer { encode($0, addSpecialTokens: addSpecialTokens) }
        }
    }

    /// - Parameter text: well-formed.
    private func encode(_ text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool) -> [Int32] {
        var scratch = idle.withLock { $0.popLast() } ?? EncodingScratch()
        var ids: [Int32] = []
        ids.reserveCapacity(text.count / 3 + 8)
        if addSpecialTokens { ids += file.template.before }
        file.added.split(text, normalized: false) { piece in
            switch piece {
            case .token(let id): ids.append(id)
            case .text(let range):
                encode(
                    segment: UnsafeBufferPointer(rebasing: text[range]), isStart: range.lowerBound == 0, &scratch, &ids)
            }
        }
        if addSpecialTokens { ids += file.template.after }
        idle.withLock { $0.append(scratch) }
        return ids
    }

    /// What lies between added tokens: normalised, searched for those that are normalised too, then cut into words.
    private func encode(
        segment: UnsafeBufferPointer<UInt8>, isStart: Bool, _ scratch: inout EncodingScratch, _ ids: inout [Int32]
    ) {
        if let normalized = file.normalizer.apply(segment) {
            normalized.withUnsafeBufferPointer { encode(normalized: $0, isStart: isStart, &scratch, &ids) }
        } else {
            encode(normalized: segment, isStart: isStart, &scratch, &ids)
        }
    }

    private func encode(
        normalized text: UnsafeBufferPointer<UInt8>, isStart: Bool, _ scratch: inout EncodingScratch,
        _ ids: inout [Int32]
    ) {
        file.added.split(text, normalized: true) { piece in
            switch piece {
            case .token(let id): ids.append(id)
            case .text(let range):
                file.preTokenizer.forEachWord(
                    UnsafeBufferPointer(rebasing: text[range]), isStart: isStart && range.lowerBound == 0, &scratch
                ) { word, scratch in
                    file.model.encode(word, &scratch, into: &ids)
                }
            }
        }
    }

    /// The text of tokens, by the decoder of the file. Ids that are nobody's are left out.
    ///
    /// - Complexity: O(n) in the bytes.
    public func decode(_ ids: [Int32], skipSpecialTokens: Bool = false) -> String {
        let tokens = ids.compactMap { id -> [UInt8]? in
            if skipSpecialTokens, file.added[id]?.isSpecial == true { return nil }
            return file.added.decodedText(id) ?? file.model.vocabulary.text(id)
        }
        return file.decoder.text(tokens)
    }

    /// The bytes that one token stands for, spaces as spaces: not always a whole character. Added tokens are their
    /// text; an id that is nobody's has no bytes.
    ///
    /// - Complexity: O(n) in the bytes.
    public func piece(_ id: Int32) -> [UInt8] {
        if let added = file.added[id] { return added.text }
        let bytes = file.model.vocabulary.bytes(id) ?? []
        if file.model.vocabulary.isByteLevel { return Array(bytes) }
        if file.model.byteTokens != nil, let byte = TokenDecoder.fallbackByte(bytes) { return [byte] }
        return Array(bytes).withUnsafeBufferPointer { ByteReplacement.apply($0, Array("▁".utf8), [0x20]) }
    }

    /// The id of the token that the file writes so: `"Ġthe"` in byte-level models, `"▁the"` in others.
    ///
    /// - Complexity: O(n) in the bytes.
    public func id(of token: String) -> Int32? {
        let text = Array(token.utf8)
        return file.added.id(text: text) ?? file.model.vocabulary.id(text: text)
    }
}
