public import CheckpointStore

/// A model that is trained: its weights in single precision, in memory of its own, with a gradient of each.
///
/// Not for two threads at once; its team shares the work of one.
public final class TrainedModel {
    /// As `config.json` names it.
    public let modelType: String
    /// Positions in the longest sequence it can be trained on.
    public let longest: Int
    /// Tensors of the checkpoint that the model has no use for, in the order of the file: they are not trained.
    public let unusedTensors: [String]

    package let parameters: Parameters
    let decoder: any TrainableDecoder

    /// Logits of each token.
    public var vocabularySize: Int { decoder.head.rows }
    /// Weights, tied ones once.
    public var weightCount: Int { parameters.entries.reduce(0) { $0 + $1.parameter.count } }

    /// The weights of a checkpoint.
    ///
    /// - Parameter longest: tokens of the longest sequence it will be trained on.
    /// - Throws: `.unsupported` for what cannot be trained; else as `LanguageModel` does.
    public convenience init(_ contents: CheckpointContents, longest: Int) throws(LanguageModelError) {
        try self.init(
            contents, config: try LanguageModel.configuration(contents), path: "\(contents.name)/config.json", longest: longest)
    }

    init(_ contents: CheckpointContents, config: [UInt8], path: String, longest: Int) throws(LanguageModelError) {
        let file = try ModelDescription(config, path: path)
        let weights = try Weights(contents)
        self.longest = longest
        modelType = file.modelType
        parameters = Parameters()
        decoder = try file.decoder(parameters, weights, longest: longest)
        // Before there is room for them: the configuration may ask for more than the file has.
        for entry in parameters.entries { try weights.check(entry.name, entry.parameter.shape) }
        unusedTensors = weights.unused
        try parameters.allocate(path)
        for entry in parameters.entries {
            try weights.read(entry.name, entry.parameter.shape, into: parameters.values + entry.parameter.offset)
        }
    }

    /// Random weights: gains 1, biases 0, all else normal with the deviation `initializer_range` of the configuration (.02 when it
    /// says none); products that are added to the stream have it divided by sqrt(2 layers), as GPT-2 does.
    ///
    /// The numbers are those of `Philox(seed, .weights)`, parameter by parameter in the order of their names, by Box and Muller.
    ///
    /// - Parameters:
    ///   - config: the text of `config.json`; `path` as errors name it.
    public init(config: [UInt8], path: String, seed: UInt64, longest: Int) throws(LanguageModelError) {
        let file = try ModelDescription(config, path: path)
        self.longest = longest
        modelType = file.modelType
        parameters = Parameters()
        decoder = try file.decoder(parameters, nil, longest: longest)
        unusedTensors = []
        try parameters.allocate(path)
        let deviation = try file.config.positive("initializer_range", or: 0.02)
        let depth = (2 * Double(max(1, decoder.layerCount))).squareRoot()
        let gains = Set(decoder.gains.map(\.offset))
        let outputs = Set(decoder.outputs.map(\.offset))
        var stream = Philox(seed: seed, .weights)
        for entry in parameters.entries.sorted(by: { $0.name < $1.name }) {
            let values = parameters.values + entry.parameter.offset
            if gains.contains(entry.parameter.offset) {
                values.update(repeating: 1, count: entry.parameter.count)
            } else if entry.parameter.isMatrix {
                let scale = outputs.contains(entry.parameter.offset) ? deviation / depth : deviation
                for index in 0..<entry.parameter.count { values[index] = Float(scale * stream.normal()) }
            }
        }
    }

    /// - Throws: as `ScoringSample.check`; `.mismatch` for one that is too long.
    package func check(_ sample: ScoringSample, _ index: Int) throws(LanguageModelError) {
        try sample.check(index, vocabulary: vocabularySize, of: "the model")
        guard sample.inputCount <= longest else {
            throw LanguageModelError(
                .mismatch, "\(sample.shown(index)): \(sample.inputCount) tokens; the model was opened for \(longest)")
        }
    }

    /// One weight, (rows, columns) or a vector, as it is now.
    public struct Weight {
        public var name: String
        public var shape: [Int]
        /// In single precision, row-major; valid as long as the model, and changed by its training.
        public var values: UnsafeBufferPointer<Float>
    }

    /// The weights by name. The memory is the model's: not to be kept, nor read while it is trained.
    public var weights: [Weight] {
        parameters.entries.sorted { $0.name < $1.name }.map { entry in
            Weight(
                name: entry.name, shape: entry.parameter.shape,
                values: UnsafeBufferPointer(start: parameters.values + entry.parameter.offset, count: entry.parameter.count))
        }
    }

    /// A configuration, and the decoder it describes.
    private struct ModelDescription {
        let config: ConfigurationReader
        let type: any Architecture.Type
        let modelType: String

        init(_ bytes: [UInt8], path: String) throws(LanguageModelError) {
            config = try ConfigurationReader(bytes, path: path)
            let found = try Architectures.named(config)
            type = found.type
            modelType = try config.text("model_type", or: "")
        }

        /// - Parameter weights: where the names are found; nil: a new model, whose head is its table where the configuration ties them.
        func decoder(
            _ parameters: Parameters, _ weights: Weights?, longest: Int
        ) throws(LanguageModelError) -> any TrainableDecoder {
            if let type = type as? any PreNormArchitecture.Type {
                let (config, form) = try type.configuration(config)
                let names = try names(weights, config.isTied, "model.embed_tokens", config.vocabularySize, config.hiddenSize)
                return PreNormTraining(config, form, parameters, names: names, longest: longest)
            }
            if type == GPT2.self {
                let config = try GPT2.Configuration(config)
                guard longest <= config.positions else {
                    throw LanguageModelError(
                        .mismatch, "\(self.config.path): \(config.positions) positions, and a sample has \(longest) tokens",
                        hint: "--max-length \(config.positions)")
                }
                let prefix = weights.map(GPT2.prefix) ?? "transformer."
                let names = try names(weights, config.isTied, prefix + "wte", config.vocabularySize, config.width)
                return GPT2Training(config, parameters, names: names, prefix: prefix)
            }
            throw LanguageModelError(
                .unsupported, "\(config.path): model_type \"\(modelType)\" cannot be trained",
                hint: "llama, mistral, qwen2, qwen3 and gpt2 can")
        }

        private func names(
            _ weights: Weights?, _ isTied: Bool, _ table: String, _ vocabulary: Int, _ width: Int
        ) throws(LanguageModelError) -> (table: String, head: String) {
            guard let weights else { return (table + ".weight", (isTied ? table : "lm_head") + ".weight") }
            let found = try weights.embeddings(isTied, table: table, head: "lm_head", vocabulary, width)
            return (found.table.entry.name, found.head.weight.entry.name)
        }
    }
}
