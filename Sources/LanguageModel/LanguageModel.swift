public import CheckpointStore

/// A checkpoint that can be run: a decoder over weights that stay where they are.
///
/// Weights are read in place from mapped files or raw blocks; only vectors (norms, biases) are copied. Sums are in single
/// precision whatever the weights' dtype. A value: threads share it, each with memory of its own.
public struct LanguageModel: Sendable {
    var architecture: any Architecture
    let contents: CheckpointContents
    /// As `config.json` names it.
    public let modelType: String
    /// Positions in the longest sequence it can be asked for.
    public let longest: Int
    /// Positions that `config.json` says it was made for; nil when it does not say.
    public let trainedLength: Int?
    /// Tensors of its weights that the configuration has no use for, in the order of the file.
    public let unusedTensors: [String]

    /// Logits of each token.
    public var vocabularySize: Int { architecture.head.weight.rows }
    /// Decoder layers.
    public var layerCount: Int { architecture.layerCount }

    /// Positions that a checkpoint's `config.json` says it was made for; nil when it does not say, or is not there.
    ///
    /// - Throws: as `init`, for a file that cannot be read or a kind of model that is not known.
    public static func trainedLength(_ contents: CheckpointContents) throws(LanguageModelError) -> Int? {
        guard let bytes = try TokenizerSettings.contents("config.json", contents.sidecars) else { return nil }
        return try trainedLength(Architectures.named(ConfigurationReader(bytes, path: "\(contents.name)/config.json")).config)
    }

    private static func trainedLength(_ config: ConfigurationReader) throws(LanguageModelError) -> Int? {
        let positions = try config.size("max_position_embeddings")
        return try positions == nil ? config.size("n_positions") : positions
    }

    /// - Parameters:
    ///   - contents: the checkpoint, with a `config.json` beside its weights.
    ///   - longest: tokens of the longest sequence that will be run; tables of rotary positions are made for so many.
    /// - Throws: `.unsupported` naming the architecture, rope type, activation or dtype that is not followed; `.missing`,
    ///   `.mismatch`, `.malformed` naming the key or the tensor.
    /// - Complexity: O(tensors + longest * head size).
    public init(_ contents: CheckpointContents, longest: Int) throws(LanguageModelError) {
        try self.init(
            contents, config: try LanguageModel.configuration(contents), path: "\(contents.name)/config.json", longest: longest)
    }

    /// The text of a checkpoint's `config.json`.
    static func configuration(_ contents: CheckpointContents) throws(LanguageModelError) -> [UInt8] {
        let bytes: [UInt8]?
        do throws(StoreError) {
            bytes = try contents.sidecars.contents("config.json")
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
        guard let bytes else {
            throw LanguageModelError(
                .missing, "\(contents.name)/config.json: not there",
                hint: "a forward pass needs the model's config.json beside its weights")
        }
        return bytes
    }

    init(
        _ contents: CheckpointContents, config bytes: [UInt8], path: String, longest: Int
    ) throws(LanguageModelError) {
        let config = try ConfigurationReader(bytes, path: path)
        let found = try Architectures.named(config)
        let weights = try Weights(contents, isNested: found.isNested)
        architecture = try found.type.init(found.config, weights, longest: longest)
        trainedLength = try LanguageModel.trainedLength(found.config)
        unusedTensors = weights.unused
        modelType = try config.text("model_type", or: "")
        if let limit = architecture.positionLimit, longest > limit {
            throw LanguageModelError(
                .mismatch, "\(path): \(limit) positions, and a sample has \(longest) tokens", hint: "--max-length \(limit)")
        }
        self.contents = contents
        self.longest = longest
    }

    /// Bytes of anonymous memory that one thread needs for batches of `tokens` tokens.
    func memory(tokens: Int) -> Int {
        let chunk = min(tokens, ForwardPass.chunkRows)
        let scored = min(tokens, Scorer.tileRows)
        let floats =
            tokens * (architecture.width + architecture.projections) + chunk * architecture.chunkColumns
            + scored * (architecture.width + Scorer.tileTokens) + DenseProduct.panelFloats
            + longest * (ForwardPass.queryRows + 2 * (architecture.headSize + 31) / 32 * 32)
        return 4 * floats
    }

    /// - Throws: as `ScoringSample.check`.
    func check(_ samples: [ScoringSample]) throws(LanguageModelError) {
        for (index, sample) in samples.enumerated() { try sample.check(index, vocabulary: vocabularySize, of: contents.name) }
    }

    /// Bytes of cosines and sines, which threads share: two tables at most.
    var tableMemory: Int { 4 * 2 * longest * architecture.headSize }

    /// All logits of one sequence, (tokens.count, vocabularySize), row by row: for tests and a look at single tokens.
    public func logits(_ tokens: [Int32]) throws(LanguageModelError) -> [Float] {
        let pass = try ForwardPass(contents)
        var batch = Batch()
        batch.append(tokens)
        try run(batch, pass)
        let hidden = pass.scratch(5, tokens.count, architecture.width)
        architecture.finish(pass.stream, pass, into: hidden)
        let logits = try Scorer.logits(hidden, 0..<vocabularySize, architecture, pass, scratch: 6)
        return Array(UnsafeBufferPointer(start: logits.data, count: tokens.count * vocabularySize))
    }

    /// Takes a batch through all layers: the last layer's output is `pass.stream`.
    func run(_ batch: Batch, _ pass: ForwardPass, _ isStopped: () -> Bool = { false }) throws(LanguageModelError) {
        if let longest = batch.positions.max().map({ $0 + 1 }), longest > self.longest {
            throw LanguageModelError(.mismatch, "a sequence of \(longest) tokens; the model was opened for \(self.longest)")
        }
        pass.begin(batch, width: architecture.width, projections: architecture.projections)
        try architecture.embed(pass)
        for layer in 0..<architecture.layerCount {
            guard !isStopped() else { throw LanguageModelError(.interrupted, "interrupted") }
            pass.layer = layer
            try architecture.forward(layer: layer, pass)
        }
        for (cache, sequence) in zip(batch.caches, batch.sequences) { cache.advance(sequence.count) }
    }
}
