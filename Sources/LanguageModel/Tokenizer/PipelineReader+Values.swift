internal import TensorFormats

/// The values inside of parts, and the bounds on what parts may ask for.
extension PipelineReader {
    func string(_ value: JSONValue, _ key: String, in part: String) throws(LanguageModelError) -> String {
        guard let text = value[key: key]?.string else { throw malformed("\(part): \"\(key)\" is no string") }
        return text
    }

    func bool(
        _ value: JSONValue, _ key: String, in part: String, default missing: Bool? = nil
    ) throws(LanguageModelError) -> Bool {
        if case .bool(let flag) = value[key: key] { return flag }
        guard let missing, value[key: key] == nil else { throw malformed("\(part): \"\(key)\" is neither true nor false") }
        return missing
    }

    func id(_ value: JSONValue?, in part: String) throws(LanguageModelError) -> Int32 {
        guard let id = value?.unsigned, id < UInt64(Int32.max) else { throw malformed("\(part): no id below 2^31 - 1") }
        return Int32(id)
    }

    /// The bytes of a pattern that is a plain text.
    func literal(_ value: JSONValue, in part: String) throws(LanguageModelError) -> [UInt8] {
        if let regex = value[key: "pattern"]?[key: "Regex"]?.string { throw unsupported("\(part): the pattern \(quoted(regex))") }
        guard let text = value[key: "pattern"]?[key: "String"]?.string, !text.isEmpty else {
            throw malformed("\(part): a pattern that is no text")
        }
        return Array(text.utf8)
    }

    /// Parts of a sequence that are read. Each is a step for every word of a text, and a level of recursion.
    private static let maximumParts = 32

    /// The elements of a sequence, or the one part that the value is.
    func flattened(_ value: JSONValue, _ key: String, in part: String) throws(LanguageModelError) -> [JSONValue] {
        if value == .null { return [] }
        guard try string(value, "type", in: part) == "Sequence" else { return [value] }
        guard let elements = value[key: key]?.array else { throw malformed("\(part): a sequence without \"\(key)\"") }
        var result: [JSONValue] = []
        for element in elements {
            result += try flattened(element, key, in: part)
            guard result.count <= PipelineReader.maximumParts else {
                throw unsupported("\(part): a sequence of more than \(PipelineReader.maximumParts) parts")
            }
        }
        return result
    }

    /// How many times as long a text may become by its normalizer or a token by its decoder: replacements that
    /// replace what others put there would fill the memory.
    private static let maximumGrowth = 256

    func grow(_ growth: inout Int, by factor: Int, _ part: String) throws(LanguageModelError) {
        growth *= min(factor, PipelineReader.maximumGrowth + 1)
        guard growth <= PipelineReader.maximumGrowth else {
            throw unsupported("\(part): a text of more than \(PipelineReader.maximumGrowth) times the length")
        }
    }

    /// What a Replace replaces and by what.
    func replacement(
        _ step: JSONValue, _ growth: inout Int, in part: String
    ) throws(LanguageModelError) -> (wanted: [UInt8], content: [UInt8]) {
        let wanted = try literal(step, in: part)
        let content = Array(try string(step, "content", in: part).utf8)
        try grow(&growth, by: max(1, (content.count + wanted.count - 1) / wanted.count), part)
        return (wanted, content)
    }
}

extension JSONValue {
    /// The member of an object; nil where it is absent or null.
    subscript(key key: String) -> JSONValue? {
        guard let value = self[key], value != .null else { return nil }
        return value
    }
}
