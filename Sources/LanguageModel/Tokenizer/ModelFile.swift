internal import TensorFormats

/// The `model` of a `tokenizer.json`.
struct ModelFile {
    private(set) var vocabulary: Vocabulary
    private var merges = PairTable(capacity: 0)
    private var products: [Int32] = []
    private var unknown: String?
    private var fusesUnknown = false
    private var fallsBackToBytes = false
    private var ignoresMerges = false
    /// What the file asks for that this library does not do, by name.
    private var refused: String?

    /// Reads the model at the scanner's place.
    ///
    /// Nothing is reserved by a number in the text, only by the bytes there are.
    ///
    /// - Parameter size: bytes of the file.
    init(_ scanner: inout JSONScanner, isByteLevel: Bool, size: Int) throws(FormatError) {
        // An entry takes some eighty bytes of an indented file, its merge included. The table grows where that is wrong.
        vocabulary = Vocabulary(isByteLevel: isByteLevel, capacity: size / 80)
        try scanner.open(UInt8(ascii: "{"))
        var (first, keys, isRead) = (true, Set<String>(), false)
        while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
            let key = try scanner.key()
            guard keys.insert(key).inserted else { throw scanner.failure("\(quoted(key)) occurs twice") }
            switch key {
            case "type":
                let type = try scanner.string()
                if type != "BPE" { refused = "a model of type \(shown(type))" }
            case "vocab":
                guard scanner.peek() == UInt8(ascii: "{") else {
                    refused = refused ?? "a model whose vocabulary is no object"
                    try scanner.skipValue()
                    continue
                }
                try readVocabulary(&scanner)
                isRead = true
            case "merges":
                guard isRead || refused != nil else { throw scanner.failure("merges before the vocabulary") }
                if refused == nil { try readMerges(&scanner) } else { try scanner.skipValue() }
            case "unk_token": unknown = try ModelFile.optionalString(&scanner)
            case "fuse_unk": fusesUnknown = try ModelFile.bool(&scanner)
            case "byte_fallback": fallsBackToBytes = try ModelFile.bool(&scanner)
            case "ignore_merges": ignoresMerges = try ModelFile.bool(&scanner)
            case "dropout":
                if scanner.peek() == UInt8(ascii: "n") {
                    try scanner.literal("null")
                } else {
                    let rate = try scanner.number()
                    if rate != .double(0), rate != .unsigned(0) { refused = refused ?? "dropout" }
                }
            case "continuing_subword_prefix", "end_of_word_suffix":
                if try ModelFile.optionalString(&scanner) ?? "" != "" { refused = refused ?? key }
            default:
                refused = refused ?? "the model's \(quoted(key))"
                try scanner.skipValue()
            }
        }
        guard refused != nil || isRead && keys.contains("merges") else {
            throw scanner.failure("a model without vocabulary and merges")
        }
    }

    /// - Throws: `.unsupported` where the model is of another kind, `.malformed` where it lacks its own tokens.
    func model(path: String) throws(LanguageModelError) -> BytePairModel {
        if let refused { throw PipelineReader(path: path).unsupported(refused) }
        // Where every byte has a token, nothing is unknown, and nothing falls back.
        let isComplete = vocabulary.isByteLevel && vocabulary.hasAllBytes
        var unknownID: Int32?
        if let unknown, !isComplete {
            unknownID = vocabulary.id(text: Array(unknown.utf8))
            guard unknownID != nil else {
                throw LanguageModelError(
                    .malformed, "\(path): the unknown token \(quoted(unknown)) is not in the vocabulary")
            }
        }
        var byteTokens: [Int32]?
        if fallsBackToBytes, !isComplete {
            guard !vocabulary.isByteLevel else {
                throw PipelineReader(path: path).unsupported("byte_fallback of a byte-level model that lacks bytes")
            }
            byteTokens = (0..<256).map { byte in
                let digits = String(byte, radix: 16, uppercase: true)
                return vocabulary.id(text: Array("<0x\(byte < 16 ? "0" : "")\(digits)>".utf8)) ?? -1
            }
        }
        return BytePairModel(
            vocabulary: vocabulary, merges: merges, products: products, unknown: unknownID, fusesUnknown: fusesUnknown,
            byteTokens: byteTokens, ignoresMerges: ignoresMerges)
    }

    /// null is false.
    private static func bool(_ scanner: inout JSONScanner) throws(FormatError) -> Bool {
        if scanner.peek() == UInt8(ascii: "n") {
            try scanner.literal("null")
            return false
        }
        let isTrue = scanner.peek() == UInt8(ascii: "t")
        try scanner.literal(isTrue ? "true" : "false")
        return isTrue
    }

    private static func optionalString(_ scanner: inout JSONScanner) throws(FormatError) -> String? {
        if scanner.peek() != UInt8(ascii: "n") { return try scanner.string() }
        try scanner.literal("null")
        return nil
    }

    private mutating func readVocabulary(_ scanner: inout JSONScanner) throws(FormatError) {
        try scanner.open(UInt8(ascii: "{"))
        var (first, greatest) = (true, Int32(-1))
        while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
            let start = scanner.position
            guard try vocabulary.append(from: &scanner) else { throw scanner.failure("a token that occurs twice", at: start) }
            try scanner.colon()
            guard case .unsigned(let value) = try scanner.number(), value < UInt64(Int32.max) else {
                throw scanner.failure("a token's id is no number below 2^31 - 1", at: start)
            }
            let id = Int32(value)
            vocabulary.setLastID(id)
            greatest = max(greatest, id)
        }
        // Ids may leave gaps, but the table of them must not grow with a number in the file.
        guard Int(greatest) < 2 * vocabulary.count + 65536 else {
            throw scanner.failure("an id of \(greatest) among \(vocabulary.count) tokens")
        }
        if let id = vocabulary.finish(idCount: Int(greatest) + 1) { throw scanner.failure("two tokens of id \(id)") }
    }

    private mutating func readMerges(_ scanner: inout JSONScanner) throws(FormatError) {
        merges = PairTable(capacity: vocabulary.count)
        products.reserveCapacity(vocabulary.count)
        var (pair, line): ([UInt8], [UInt8]) = ([], [])
        /// The entry that the last merge made: the next one mostly makes the next.
        var last = -1
        try scanner.open(UInt8(ascii: "["))
        var first = true
        while try scanner.next(before: UInt8(ascii: "]"), first: &first) {
            _ = scanner.peek()
            let start = scanner.position
            pair.removeAll(keepingCapacity: true)
            let leftCount: Int
            if scanner.peek() == UInt8(ascii: "[") {
                try scanner.open(UInt8(ascii: "["))
                var isFirst = true
                var parts = 0
                var mark = 0
                while try scanner.next(before: UInt8(ascii: "]"), first: &isFirst) {
                    let from = pair.count
                    try scanner.appendString(to: &pair)
                    try asBytes(&pair, from: from, scanner, start)
                    if parts == 0 { mark = pair.count }
                    parts += 1
                }
                guard parts == 2 else { throw scanner.failure("a merge of \(parts) tokens", at: start) }
                leftCount = mark
            } else {
                line.removeAll(keepingCapacity: true)
                try scanner.appendString(to: &line)
                // A line that merges.txt files start with.
                if line.starts(with: "#version".utf8) { continue }
                guard let space = line.firstIndex(of: 0x20), !line[(space + 1)...].contains(0x20) else {
                    throw scanner.failure("a merge that is not two tokens", at: start)
                }
                pair.append(contentsOf: line[..<space])
                try asBytes(&pair, from: 0, scanner, start)
                leftCount = pair.count
                pair.append(contentsOf: line[(space + 1)...])
                try asBytes(&pair, from: leftCount, scanner, start)
            }
            let (left, right, product) = pair.withUnsafeBufferPointer { pair in
                (
                    vocabulary.id(UnsafeBufferPointer(rebasing: pair[..<leftCount])),
                    vocabulary.id(UnsafeBufferPointer(rebasing: pair[leftCount...])),
                    last + 1 < vocabulary.count && vocabulary.isEntry(last + 1, pair) ? last + 1 : vocabulary.entry(pair)
                )
            }
            guard left >= 0, right >= 0, let product else {
                throw scanner.failure("a merge of or into a token that is not in the vocabulary", at: start)
            }
            last = product
            merges.set(left, right, UInt64(products.count))
            products.append(vocabulary.ids[product])
        }
    }

    private func asBytes(
        _ text: inout [UInt8], from start: Int, _ scanner: borrowing JSONScanner, _ place: Int
    ) throws(FormatError) {
        guard !vocabulary.isByteLevel || ByteAlphabet.decode(&text, from: start) else {
            throw scanner.failure("a merge of characters that stand for no byte", at: place)
        }
    }
}

/// A token or key as an error names it: in quotes, on one line, and not too long.
func quoted(_ text: String) -> String { "\"\(shown(text))\"" }

/// A name in an error: on one line, and not too long.
func shown(_ text: String) -> String {
    let shown = text.unicodeScalars.prefix(40).map { $0.value < 0x20 ? $0.escaped(asASCII: true) : String($0) }.joined()
    return shown + (text.unicodeScalars.count > 40 ? "…" : "")
}
