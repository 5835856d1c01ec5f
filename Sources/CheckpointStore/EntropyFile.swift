internal import BlockCodec
internal import TensorFormats

/// Files of outputs that were made elsewhere: JSON lines. The first is `{"provenance": {...}, "settings": {...}}`; each other
/// one has a sample's `id` and, under the names of columns, lists of figures: `{"id": "a", "entropy": [...], "nll": [...]}`.
public struct EntropyFile: Sendable {
    /// Bytes a file may have.
    public static let maximumBytes = JSONLines.maximumBytes

    /// How the figures came about.
    public var provenance: [String: String] = [:]
    /// What they are kept under.
    public var settings: [String: String] = [:]
    /// The same in every line; ascending.
    public var columns: [EntropyColumn] = []
    /// In the order of the lines.
    public var outputs: [SampleOutputs] = []

    /// Where the settings say that samples were cut.
    private var maximumLength: Int?

    /// What a program has at hand.
    public init(provenance: [String: String], settings: [String: String], columns: [EntropyColumn], outputs: [SampleOutputs]) {
        self.provenance = provenance
        self.settings = settings
        self.columns = columns.sorted()
        self.outputs = outputs
    }

    /// Reads the file at `path`, whose ids are those of samples of `probe`.
    ///
    /// - Throws: `.badInput` with file, line and key, or with the sample for figures that are none.
    /// - Complexity: O(bytes).
    public init(_ path: String, probe: Probe) throws(StoreError) {
        try throwingStoreErrors {
            var indices: [ExactName: Int] = [:]
            for (index, sample) in probe.samples.enumerated() { indices[ExactName(sample.id)] = index }
            var isFirst = true
            try JSONLines(path).forEach { line in
                if isFirst { try takeHead(line) } else { try takeRow(line, probe, indices) }
                isFirst = false
            }
            guard !outputs.isEmpty else { throw StoreError(.badInput, "\(path): no figures in it") }
        }
    }

    private mutating func takeHead(_ line: JSONLine) throws {
        let hint = "the first line is {\"provenance\": {...}, \"settings\": {...}}"
        for member in line.value.members ?? [] where !["provenance", "settings"].contains(member.key) {
            throw line.failure(member.key, "is unknown in the first line", hint: hint)
        }
        provenance = try EntropyFile.texts("provenance", line, hint)
        settings = try EntropyFile.texts("settings", line, hint)
        if let text = settings["max_length"] {
            guard let length = Int(text), length > 1 else { throw line.failure("settings.max_length", "\(text) is no number of tokens") }
            maximumLength = length
        }
    }

    /// An object of texts, numbers and truth values, all as text.
    private static func texts(_ key: String, _ line: JSONLine, _ hint: String) throws -> [String: String] {
        guard let members = line[key]?.members else { throw line.failure(key, "is no object", hint: hint) }
        var texts: [String: String] = [:]
        for member in members {
            guard texts[member.key] == nil else { throw line.failure("\(key).\(member.key)", "is there twice") }
            switch member.value {
            case .string(let text): texts[member.key] = text
            case .unsigned(let number): texts[member.key] = "\(number)"
            case .signed(let number): texts[member.key] = "\(number)"
            case .double(let number): texts[member.key] = "\(number)"
            case .bool(let value): texts[member.key] = "\(value)"
            default: throw line.failure("\(key).\(member.key)", "is no text, number or truth value")
            }
        }
        return texts
    }

    private mutating func takeRow(_ line: JSONLine, _ probe: Probe, _ indices: [ExactName: Int]) throws {
        let id = try line.id()
        guard let index = indices[ExactName(id)] else { throw line.failure("id", "\"\(id)\": the probe has no such sample") }
        var found: [EntropyColumn] = []
        for member in line.value.members ?? [] where member.key != "id" {
            guard let column = EntropyColumn.allCases.first(where: { $0.name == member.key }) else {
                let names = EntropyColumn.allCases.map(\.name).joined(separator: ", ")
                throw line.failure(member.key, "is no column", hint: "columns are \(names)")
            }
            guard !found.contains(column) else { throw line.failure(member.key, "is there twice") }
            found.append(column)
        }
        found.sort()
        if columns.isEmpty { columns = found }
        guard !found.isEmpty, found == columns else {
            throw StoreError(
                .badInput, "\(line.place): sample \"\(id)\" has the columns \(found.map(\.name)), not \(columns.map(\.name))",
                hint: "every line has the same ones")
        }
        let supervised = probe.samples[index].supervised
        let count = supervised.reduce(0) { $0 + $1.clamped(to: 0..<(maximumLength ?? Int.max)).count }
        var output = SampleOutputs(sample: index, values: [])
        for column in columns {
            let values = line[column.name]?.array
            guard let values else { throw line.failure(column.name, "is no list") }
            guard values.count == count else {
                let place = maximumLength.map { " below max_length \($0)" } ?? ""
                throw line.failure(column.name, "of sample \"\(id)\" has figures for \(values.count) tokens; \(count) are supervised\(place)")
            }
            if column == .top1 {
                output.top1 = try values.map { value in
                    guard let token = value.unsigned.flatMap({ UInt32(exactly: $0) }) else {
                        throw line.failure(column.name, "of sample \"\(id)\" holds what is no token id")
                    }
                    return token
                }
            } else {
                output.values.append(
                    try values.map { value in
                        guard let number = value.double else {
                            throw line.failure(column.name, "of sample \"\(id)\" holds what is no number")
                        }
                        guard column.range.contains(number) else {
                            throw line.failure(column.name, "of sample \"\(id)\" holds \(number), which it cannot be")
                        }
                        return Float(number)
                    })
            }
        }
        outputs.append(output)
    }
}

extension Store {
    /// Samples added in one transaction.
    private static let importSlice = 4096

    /// Adds outputs that were made elsewhere to the record of `snapshot` on the probe called `probe`, made when there is none.
    ///
    /// All is checked before anything is kept.
    /// - Throws: what `EntropyFile`, `beginEntropyRecord` and `appendOutputs` throw; `.conflict` when the record has samples that
    ///   another program or device made.
    /// - Complexity: O(bytes of the file).
    @discardableResult
    public func importOutputs(_ path: String, of snapshot: ContentID, on probe: String) throws(StoreError) -> EntropyRecord {
        try importOutputs(EntropyFile(path, probe: self.probe(probe).probe), of: snapshot, on: probe)
    }

    /// The same for a file that was read already.
    @discardableResult
    public func importOutputs(_ file: EntropyFile, of snapshot: ContentID, on probe: String) throws(StoreError) -> EntropyRecord {
        let (id, _, probe) = try self.probe(probe)
        let key = EntropyKey(snapshot: snapshot, probe: id, settings: file.settings)
        try throwingStoreErrors {
            let record = EntropyRecord(
                key: key, columns: file.columns, provenance: file.provenance, samplesTotal: probe.samples.count, created: 0)
            let shape = ProbeShape(probe)
            try Store.check(file.outputs, record, shape)
            // What a program has at hand was looked at by nobody yet.
            for output in file.outputs {
                for (column, values) in zip(file.columns.filter { $0 != .top1 }, output.values) {
                    guard let wrong = values.first(where: { !column.range.contains(Double($0)) }) else { continue }
                    throw StoreError(.badInput, "sample \(output.sample): \(column.name) is \(wrong), which it cannot be")
                }
            }
            if let known = try entropyRecord(key) {
                let coder = try BlockCoder()
                try readAll { transaction, tables in
                    try Store.checkKnown(file.outputs, known, shape, coder, transaction, tables)
                }
                if !file.outputs.allSatisfy({ known.contains($0.sample) }) { try known.checkMaker(file.provenance) }
            }
        }
        try beginEntropyRecord(key, columns: Set(file.columns), provenance: file.provenance)
        for start in stride(from: 0, to: file.outputs.count, by: Store.importSlice) {
            try appendOutputs(Array(file.outputs[start..<min(start + Store.importSlice, file.outputs.count)]), to: key)
        }
        guard let record = try entropyRecord(key) else { throw StoreError(.conflict, "\(key.id.short): removed meanwhile") }
        return record
    }
}
