/// One tensor of a safetensors header, as stated there and not yet checked against the file.
struct SafetensorsEntry {
    var name: String
    var dtype: DType
    var shape: [UInt64]
    /// `data_offsets`: bytes from the end of the header.
    var begin: UInt64
    var end: UInt64
    /// Bytes from the start of the JSON text to the entry's value.
    var position: Int

    /// The entries in the order of their names, the last one of each: the reference reader's maps overwrite.
    static func lastOfEachName(_ entries: [SafetensorsEntry]) -> [SafetensorsEntry] {
        let order = entries.indices.sorted { left, right in
            let (a, b) = (ExactName(entries[left].name), ExactName(entries[right].name))
            return a < b || (a == b && left < right)
        }
        var result: [SafetensorsEntry] = []
        result.reserveCapacity(entries.count)
        for index in order {
            let entry = entries[index]
            if let last = result.last, ExactName(last.name) == ExactName(entry.name) {
                result[result.count - 1] = entry
            } else {
                result.append(entry)
            }
        }
        return result
    }
}

/// The JSON of a safetensors header, read straight into entries.
///
/// The reference reader derives its parser from Rust structures with serde, and some of what that accepts is in
/// no specification: an entry as the array `[dtype, shape, data_offsets]`, a dtype as `{"F32": null}`,
/// `"__metadata__": null`. Twice the same field in an entry is refused, twice the same tensor is not.
enum SafetensorsHeader {
    /// The entries in the order of the text, duplicates included.
    ///
    /// - Throws: `.malformed`, naming tensor and byte.
    /// - Complexity: O(n) in the bytes.
    static func parse(_ json: [UInt8], path: String) throws(FormatError) -> [SafetensorsEntry] {
        var failure: FormatError?
        let entries = json.withUnsafeBufferPointer { text -> [SafetensorsEntry] in
            var scanner = JSONScanner(text, path: path, origin: 8)
            do throws(FormatError) {
                return try document(&scanner)
            } catch {
                failure = error
                return []
            }
        }
        if let failure { throw failure }
        return entries
    }

    private static func document(_ scanner: inout JSONScanner) throws(FormatError) -> [SafetensorsEntry] {
        var entries: [SafetensorsEntry] = []
        var hasMetadata = false
        try scanner.open(UInt8(ascii: "{"))
        var first = true
        while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
            let name = try scanner.key()
            let next = scanner.peek()
            if name == "__metadata__" {
                guard !hasMetadata else { throw scanner.failure("a second __metadata__") }
                hasMetadata = true
                if next == UInt8(ascii: "n") { try scanner.literal("null") } else { try metadata(&scanner) }
                continue
            }
            do {
                entries.append(try entry(&scanner, name: name))
            } catch {
                var named = error
                named.tensor = SafePath.printable(name)
                throw named
            }
        }
        try scanner.finish()
        return entries
    }

    /// An object of strings, which is checked and not kept: the header's bytes are.
    private static func metadata(_ scanner: inout JSONScanner) throws(FormatError) {
        try scanner.open(UInt8(ascii: "{"))
        var first = true
        while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
            _ = try scanner.key()
            guard scanner.peek() == UInt8(ascii: "\"") else {
                throw scanner.failure("a value of __metadata__ is not a string")
            }
            try scanner.skipValue()
        }
    }

    private static func entry(_ scanner: inout JSONScanner, name: String) throws(FormatError) -> SafetensorsEntry {
        let position = scanner.position
        var dtype: DType?
        var shape: [UInt64]?
        var offsets: (begin: UInt64, end: UInt64)?
        var first = true
        if scanner.peek() == UInt8(ascii: "[") {
            try scanner.open(UInt8(ascii: "["))
            try expectElement(&scanner, &first)
            dtype = try self.dtype(&scanner)
            try expectElement(&scanner, &first)
            shape = try self.shape(&scanner)
            try expectElement(&scanner, &first)
            offsets = try dataOffsets(&scanner)
            guard try !scanner.next(before: UInt8(ascii: "]"), first: &first) else {
                throw scanner.failure("more than three elements")
            }
        } else {
            try scanner.open(UInt8(ascii: "{"))
            while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
                let field = try scanner.key()
                switch field {
                case "dtype":
                    guard dtype == nil else { throw scanner.failure("a second \"dtype\"") }
                    dtype = try self.dtype(&scanner)
                case "shape":
                    guard shape == nil else { throw scanner.failure("a second \"shape\"") }
                    shape = try self.shape(&scanner)
                case "data_offsets":
                    guard offsets == nil else { throw scanner.failure("a second \"data_offsets\"") }
                    offsets = try dataOffsets(&scanner)
                default: try scanner.skipValue()
                }
            }
        }
        guard let dtype else { throw scanner.failure("\"dtype\" is missing", at: position) }
        guard let shape else { throw scanner.failure("\"shape\" is missing", at: position) }
        guard let offsets else { throw scanner.failure("\"data_offsets\" is missing", at: position) }
        return SafetensorsEntry(
            name: name, dtype: dtype, shape: shape, begin: offsets.begin, end: offsets.end, position: position)
    }

    private static func expectElement(_ scanner: inout JSONScanner, _ first: inout Bool) throws(FormatError) {
        guard try scanner.next(before: UInt8(ascii: "]"), first: &first) else {
            throw scanner.failure("too few elements")
        }
    }

    private static func dtype(_ scanner: inout JSONScanner) throws(FormatError) -> DType {
        guard scanner.peek() == UInt8(ascii: "{") else { return try dtypeName(&scanner, scanner.string()) }
        try scanner.open(UInt8(ascii: "{"))
        var first = true
        guard try scanner.next(before: UInt8(ascii: "}"), first: &first) else {
            throw scanner.failure("expected a dtype")
        }
        let dtype = try dtypeName(&scanner, scanner.key())
        try scanner.literal("null")
        guard try !scanner.next(before: UInt8(ascii: "}"), first: &first) else {
            throw scanner.failure("more than one dtype")
        }
        return dtype
    }

    private static func dtypeName(_ scanner: inout JSONScanner, _ name: String) throws(FormatError) -> DType {
        guard let dtype = DType(safetensorsName: name) else {
            throw scanner.failure("unknown dtype \"\(SafePath.printable(name))\"")
        }
        return dtype
    }

    private static func shape(_ scanner: inout JSONScanner) throws(FormatError) -> [UInt64] {
        try scanner.open(UInt8(ascii: "["))
        var shape: [UInt64] = []
        var first = true
        while try scanner.next(before: UInt8(ascii: "]"), first: &first) {
            shape.append(try unsigned(&scanner, what: "dimension"))
        }
        return shape
    }

    private static func dataOffsets(_ scanner: inout JSONScanner) throws(FormatError) -> (UInt64, UInt64) {
        try scanner.open(UInt8(ascii: "["))
        var first = true
        try expectElement(&scanner, &first)
        let begin = try unsigned(&scanner, what: "offset")
        try expectElement(&scanner, &first)
        let end = try unsigned(&scanner, what: "offset")
        guard try !scanner.next(before: UInt8(ascii: "]"), first: &first) else {
            throw scanner.failure("more than two data_offsets")
        }
        return (begin, end)
    }

    private static func unsigned(_ scanner: inout JSONScanner, what: String) throws(FormatError) -> UInt64 {
        _ = scanner.peek()
        let start = scanner.position
        guard case .unsigned(let value) = try scanner.number() else {
            throw scanner.failure("a \(what) that is negative, fractional or over 64 bits", at: start)
        }
        return value
    }
}
