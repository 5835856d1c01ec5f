/// Outputs of some samples as one chunk holds them, all in words of four bytes: how many parts there are; sample, first token
/// and number of tokens of each; then column by column the figures of all parts.
///
/// A part is a sample's figures or, where a chunk ends inside a sample, a piece of them.
struct OutputChunk {
    struct Part: Equatable {
        var sample: Int
        var first: Int
        var count: Int
    }

    private static let maximumWords = Chunk.maximumBytes / 4
    private static let partWords = 3

    private(set) var parts: [Part] = []
    /// A bit pattern for each token of all parts, by column.
    private(set) var columns: [[UInt32]]
    private var words = 1

    init(columnCount: Int) { columns = [[UInt32]](repeating: [], count: columnCount) }

    /// The words of `outputs`, by column in the order of their numbers.
    static func patterns(_ outputs: SampleOutputs, _ columns: [EntropyColumn]) -> [[UInt32]] {
        var floats = outputs.values.makeIterator()
        return columns.map { $0 == .top1 ? outputs.top1 : floats.next()!.map(\.bitPattern) }
    }

    /// Appends what fits of a sample's figures from token `first` on.
    ///
    /// - Returns: the token to go on with in another chunk; nil when all is in.
    mutating func append(_ sample: Int, _ patterns: [[UInt32]], from first: Int) -> Int? {
        let count = patterns[0].count - first
        let room = OutputChunk.maximumWords - words - OutputChunk.partWords
        let taken = min(count, room / columns.count)
        guard room >= 0, taken > 0 || count == 0 else { return first }
        parts.append(Part(sample: sample, first: first, count: taken))
        for index in columns.indices { columns[index] += patterns[index][first..<(first + taken)] }
        words += OutputChunk.partWords + taken * columns.count
        return taken == count ? nil : first + taken
    }

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(UInt32(parts.count))
        for part in parts {
            for number in [part.sample, part.first, part.count] { writer.put(UInt32(number)) }
        }
        for column in columns { for pattern in column { writer.put(pattern) } }
        return writer.bytes
    }

    init(_ bytes: [UInt8], columnCount: Int, what: String) throws {
        var reader = ByteReader(bytes, what)
        columns = []
        var total = 0
        for _ in 0..<(try reader.takeCount(itemBytes: 4 * OutputChunk.partWords)) {
            let numbers = (try reader.take(UInt32.self), try reader.take(UInt32.self), try reader.take(UInt32.self))
            parts.append(Part(sample: Int(numbers.0), first: Int(numbers.1), count: Int(numbers.2)))
            total += Int(numbers.2)
        }
        guard !parts.isEmpty, reader.remaining == 4 * total * columnCount else {
            throw reader.damage("\(reader.remaining) bytes of figures for \(total) tokens of \(columnCount) columns")
        }
        for _ in 0..<columnCount {
            var column: [UInt32] = []
            column.reserveCapacity(total)
            for _ in 0..<total { column.append(try reader.take()) }
            columns.append(column)
        }
    }
}

/// Puts the parts of samples together again, chunk by chunk.
struct OutputAssembler {
    let columns: [EntropyColumn]
    private(set) var outputs: [SampleOutputs] = []
    private var seen: Set<Int> = []

    init(_ columns: [EntropyColumn]) { self.columns = columns }

    /// - Throws: `.damaged` when a part does not follow the one before, or a sample comes twice.
    mutating func append(_ chunk: OutputChunk, what: String) throws {
        var start = 0
        for part in chunk.parts {
            let isNext = outputs.last.map { $0.sample == part.sample && $0.count == part.first && part.first > 0 && part.count > 0 } ?? false
            if !isNext {
                guard part.first == 0, seen.insert(part.sample).inserted else {
                    throw StoreError(
                        .damaged, "\(what): sample \(part.sample) is there twice or in pieces out of order", hint: "run ckpt verify")
                }
                let floats = columns.filter { $0 != .top1 }.count
                outputs.append(SampleOutputs(sample: part.sample, values: [[Float]](repeating: [], count: floats)))
            }
            let range = start..<(start + part.count)
            var float = 0
            for (index, column) in columns.enumerated() {
                let patterns = chunk.columns[index][range]
                if column == .top1 {
                    outputs[outputs.count - 1].top1 += patterns
                } else {
                    outputs[outputs.count - 1].values[float] += patterns.lazy.map(Float.init(bitPattern:))
                    float += 1
                }
            }
            start = range.upperBound
        }
    }
}
