package import TensorFormats

/// A JSON value that keeps the order of its members.
package enum JSONOutput: ExpressibleByDictionaryLiteral, ExpressibleByArrayLiteral, ExpressibleByStringLiteral,
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

    package init(dictionaryLiteral elements: (String, JSONOutput)...) { self = .object(elements) }
    package init(arrayLiteral elements: JSONOutput...) { self = .array(elements) }
    package init(stringLiteral value: String) { self = .string(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(integerLiteral value: Int) { self = .int(value) }

    package init(_ value: JSONValue) {
        self =
            switch value {
            case .null: .null
            case .bool(let value): .bool(value)
            case .unsigned(let value): .unsigned(value)
            case .signed(let value): .int(Int(value))
            case .double(let value): .double(value)
            case .string(let value): .string(value)
            case .array(let values): .array(values.map { JSONOutput($0) })
            case .object(let members): .object(members.map { ($0.key, JSONOutput($0.value)) })
            }
    }

    package static func strings(_ values: [String]) -> JSONOutput { .array(values.map { .string($0) }) }
    package static func texts(_ values: [String: String]) -> JSONOutput { .object(values.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }) }
    package static func shape(_ dims: [UInt64]) -> JSONOutput { .array(dims.map { .unsigned($0) }) }
    package static func optional(_ text: String?) -> JSONOutput { text.map { .string($0) } ?? .null }

    /// On one line. JSON has no NaN and no infinity: they are null.
    package var text: String { value.text }

    private var value: JSONValue {
        switch self {
        case .null: .null
        case .bool(let value): .bool(value)
        case .int(let value): value < 0 ? .signed(Int64(value)) : .unsigned(UInt64(value))
        case .unsigned(let value): .unsigned(value)
        case .double(let value): .double(value)
        case .string(let value): .string(value)
        case .array(let values): .array(values.map(\.value))
        case .object(let members): .object(members.map { JSONValue.Member(key: $0.0, value: $0.1.value) })
        }
    }
}
