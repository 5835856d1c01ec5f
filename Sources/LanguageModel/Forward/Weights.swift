internal import CheckpointStore
internal import TensorFormats

/// Finds a model's tensors by name and checks their shapes. Vectors are copied (they are small), matrices are not.
struct Weights {
    let contents: CheckpointContents
    private let entries: [String: TensorEntry]
    private let reader: TensorReader
    /// Whether the model is the text part of a larger one, which has its tensors under `language_model`.
    private let isNested: Bool
    private let used = UsedNames()

    /// Names of tensors that were asked for.
    private final class UsedNames {
        var names: Set<String> = []
    }

    init(_ contents: CheckpointContents, isNested: Bool = false) throws(LanguageModelError) {
        self.contents = contents
        self.isNested = isNested
        var entries: [String: TensorEntry] = [:]
        for entry in contents.tensors where entry.part == .weights {
            guard entries.updateValue(entry, forKey: entry.name) == nil else {
                throw LanguageModelError(.malformed, "\(contents.name): tensor \(entry.name) is in two files")
            }
        }
        self.entries = entries
        do throws(StoreError) {
            reader = try contents.makeReader()
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    func has(_ name: String) -> Bool { find(name) != nil }

    /// A tensor of that name; in a larger model `model.norm` is `language_model.model.norm` in files of transformers 4,
    /// `model.language_model.norm` in those of 5.
    private func find(_ name: String) -> TensorEntry? {
        if let entry = entries[name] { return entry }
        guard isNested else { return nil }
        if let entry = entries["language_model." + name] { return entry }
        return name.hasPrefix("model.") ? entries["model.language_model." + name.dropFirst("model.".count)] : nil
    }

    /// The table of embeddings, (V, D), and the head that makes logits, (V, D).
    ///
    /// Where the configuration ties them the file needs only one, by either name; where it has both, both count, as in
    /// transformers 5.
    func embeddings(
        _ isTied: Bool, table: String, head: String, _ vocabulary: Int, _ width: Int
    ) throws(LanguageModelError) -> (table: Weight, head: Linear) {
        let hasTable = has(table + ".weight")
        let hasHead = has(head + ".weight")
        return (
            try matrix((isTied && !hasTable && hasHead ? head : table) + ".weight", vocabulary, width),
            try Linear(self, isTied && !hasHead ? table : head, vocabulary, width, hasBias: false)
        )
    }

    /// Tensors of the model that nobody asked for, in the order of the file: the configuration says less than the file has.
    /// Masks and frequencies that older files keep beside the weights are no weights.
    var unused: [String] {
        let buffers = [".inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"]
        return contents.tensors.filter { entry in
            entry.part == .weights && !used.names.contains(entry.name) && !buffers.contains(where: entry.name.hasSuffix)
                && (!isNested || entry.name.contains("language_model."))
        }.map(\.name)
    }

    private func entry(_ name: String, _ shape: [Int]) throws(LanguageModelError) -> TensorEntry {
        guard let entry = find(name) else {
            throw LanguageModelError(.missing, "\(contents.name): no tensor \(name)")
        }
        used.names.insert(entry.name)
        guard entry.shape == shape.map(UInt64.init) else {
            throw LanguageModelError(
                .mismatch, "\(contents.name): tensor \(name) is \(entry.shape); config.json makes it \(shape)")
        }
        guard entry.dtype == .f32 || entry.dtype == .bf16 || entry.dtype == .f16 else {
            throw LanguageModelError(
                .unsupported, "\(contents.name): tensor \(name) is \(entry.dtype.name); forward passes read F32, BF16 and F16")
        }
        return entry
    }

    func matrix(_ name: String, _ rows: Int, _ columns: Int) throws(LanguageModelError) -> Weight {
        Weight(entry: try entry(name, [rows, columns]), rows: rows, columns: columns)
    }

    /// Refuses a tensor that is not there, or not of this shape.
    func check(_ name: String, _ shape: [Int]) throws(LanguageModelError) { _ = try entry(name, shape) }

    /// A tensor as floats.
    func read(_ name: String, _ shape: [Int], into out: UnsafeMutablePointer<Float>) throws(LanguageModelError) {
        let entry = try entry(name, shape)
        do {
            var start: UInt64 = 0
            while start < entry.byteCount {
                let end = min(entry.byteCount, start + (1 << 20))
                let first = Int(start) / (entry.dtype.bits / 8)
                try reader.withBytes(of: entry, start..<end) { Widening.floats($0, entry.dtype, into: out + first) }
                start = end
            }
        } catch {
            throw LanguageModelError(.failed, "\(error)")
        }
    }

    /// A vector as floats, `offset` added to each.
    func vector(_ name: String, _ count: Int, plus offset: Float = 0) throws(LanguageModelError) -> [Float] {
        var values = [Float](repeating: 0, count: count)
        try values.withUnsafeMutableBufferPointer { (buffer) throws(LanguageModelError) in
            try read(name, [count], into: buffer.baseAddress!)
        }
        if offset != 0 { for index in values.indices { values[index] += offset } }
        return values
    }
}
