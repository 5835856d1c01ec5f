/// A JSON document as a tree.
///
/// For documents whose whole content is wanted, such as an index of shards or a trainer's state. The parser is
/// as strict as serde_json: valid UTF-8, no trailing commas, no NaN, no control characters or lone surrogates
/// in strings, nesting below 128.
///
/// Equality compares strings as `String` does, by canonical equivalence; `subscript` compares keys byte for byte.
public enum JSONValue: Sendable, Equatable {
    case null
    case bool(Bool)
    /// An integer from zero to 2^64 - 1, exact.
    case unsigned(UInt64)
    /// An integer from -2^63 to -1, exact.
    case signed(Int64)
    /// Every other number. `-0` is the Double -0.0.
    case double(Double)
    case string(String)
    case array([JSONValue])
    /// Members in the order of the text; a key that occurs twice is there twice.
    case object([Member])

    /// A name and its value in an object.
    public struct Member: Sendable, Equatable {
        public var key: String
        public var value: JSONValue

        public init(key: String, value: JSONValue) {
            self.key = key
            self.value = value
        }
    }

    /// Values and object members one document may have. At some 50 bytes each it bounds the memory a hostile
    /// text can ask for to half a gigabyte.
    public static let maximumValues = 8 << 20

    /// Parses a whole document.
    ///
    /// - Parameters:
    ///   - bytes: UTF-8 text, no byte order mark.
    ///   - path: the file, as errors name it.
    ///   - isLenient: takes `NaN`, `Infinity` and `-Infinity`, as Python writes them, for null.
    /// - Throws: `.malformed` with the byte where the text stops being JSON, `.limit` over `maximumValues`.
    /// - Complexity: O(n) in the bytes.
    public static func parse(_ bytes: [UInt8], path: String, isLenient: Bool = false) throws(FormatError) -> JSONValue {
        var failure: FormatError?
        let value = bytes.withUnsafeBufferPointer { text -> JSONValue in
            do throws(FormatError) {
                var scanner = JSONScanner(text, path: path)
                var budget = maximumValues
                let value = try parse(&scanner, budget: &budget, path: path, isLenient: isLenient)
                try scanner.finish()
                return value
            } catch {
                failure = error
                return .null
            }
        }
        if let failure { throw failure }
        return value
    }

    /// The value of `key` in an object, the last one where it occurs twice; nil where this is no object.
    ///
    /// - Complexity: O(n) in the members.
    public subscript(key: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        let wanted = ExactName(key)
        return members.last { ExactName($0.key) == wanted }?.value
    }

    /// The text of a string, else nil.
    public var string: String? {
        if case .string(let text) = self { text } else { nil }
    }

    /// An integer that is not negative, else nil.
    public var unsigned: UInt64? {
        if case .unsigned(let value) = self { value } else { nil }
    }

    /// Any number, rounded to a Double where it is a large integer; else nil.
    public var double: Double? {
        switch self {
        case .unsigned(let value): Double(value)
        case .signed(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The elements of an array, else nil.
    public var array: [JSONValue]? {
        if case .array(let elements) = self { elements } else { nil }
    }

    /// The members of an object in the order of the text, else nil.
    public var members: [Member]? {
        if case .object(let members) = self { members } else { nil }
    }

    /// Recursion is bounded by the scanner's depth limit.
    private static func parse(
        _ scanner: inout JSONScanner, budget: inout Int, path: String, isLenient: Bool
    ) throws(FormatError) -> JSONValue {
        guard budget > 0 else {
            throw FormatError(
                .limit, path: path, byte: UInt64(scanner.position), "a JSON text of more than \(maximumValues) values")
        }
        budget -= 1
        switch scanner.peek() {
        case UInt8(ascii: "{"):
            try scanner.open(UInt8(ascii: "{"))
            var members: [Member] = []
            var first = true
            while try scanner.next(before: UInt8(ascii: "}"), first: &first) {
                let key = try scanner.key()
                members.append(Member(key: key, value: try parse(&scanner, budget: &budget, path: path, isLenient: isLenient)))
            }
            return .object(members)
        case UInt8(ascii: "["):
            try scanner.open(UInt8(ascii: "["))
            var elements: [JSONValue] = []
            var first = true
            while try scanner.next(before: UInt8(ascii: "]"), first: &first) {
                elements.append(try parse(&scanner, budget: &budget, path: path, isLenient: isLenient))
            }
            return .array(elements)
        case UInt8(ascii: "\""):
            return .string(try scanner.string())
        case UInt8(ascii: "t"):
            try scanner.literal("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try scanner.literal("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try scanner.literal("null")
            return .null
        case UInt8(ascii: "N") where isLenient:
            try scanner.literal("NaN")
            return .null
        case UInt8(ascii: "I") where isLenient:
            try scanner.literal("Infinity")
            return .null
        case UInt8(ascii: "-") where isLenient && scanner.isInfinity:
            try scanner.literal("-Infinity")
            return .null
        default:
            switch try scanner.number() {
            case .unsigned(let value): return .unsigned(value)
            case .signed(let value): return .signed(value)
            case .double(let value): return .double(value)
            }
        }
    }
}
