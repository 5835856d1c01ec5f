import TensorFormats

/// A JSON value that keeps the order of its members.
enum JSONOutput: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral
{
    case null
    case bool(Bool)
    case int(Int)
    case unsigned(UInt64)
    case double(Double)
    case string(String)
    case array([JSONOutput])
    case object([(String, JSONOutput)])

    init(dictionaryLiteral elements: (String, JSONOutput)...) { self = .object(elements) }
    init(arrayLiteral elements: JSONOutput...) { self = .array(elements) }
    init(stringLiteral value: String) { self = .string(value) }
    init(booleanLiteral value: Bool) { self = .bool(value) }
    init(integerLiteral value: Int) { self = .int(value) }

    static func strings(_ values: [String]) -> JSONOutput { .array(values.map { .string($0) }) }
    static func shape(_ dims: [UInt64]) -> JSONOutput { .array(dims.map { .unsigned($0) }) }
    static func optional(_ text: String?) -> JSONOutput { text.map { .string($0) } ?? .null }

    /// On one line. JSON has no NaN and no infinity: they are null.
    var text: String {
        var output = ""
        write(to: &output)
        return output
    }

    private func write(to output: inout String) {
        switch self {
        case .null: output += "null"
        case .bool(let value): output += value ? "true" : "false"
        case .int(let value): output += "\(value)"
        case .unsigned(let value): output += "\(value)"
        case .double(let value): output += value.isFinite ? "\(value)" : "null"
        case .string(let value): JSONValue.write(value, to: &output)
        case .array(let values):
            output += "["
            for (index, value) in values.enumerated() {
                if index > 0 { output += "," }
                value.write(to: &output)
            }
            output += "]"
        case .object(let members):
            output += "{"
            for (index, member) in members.enumerated() {
                if index > 0 { output += "," }
                JSONValue.write(member.0, to: &output)
                output += ":"
                member.1.write(to: &output)
            }
            output += "}"
        }
    }
}
