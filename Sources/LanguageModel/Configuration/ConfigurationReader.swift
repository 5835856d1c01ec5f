internal import TensorFormats

/// `config.json`, read key by key: each is what it should be or the file is refused by the key's name.
struct ConfigurationReader {
    let path: String
    let json: JSONValue

    init(_ bytes: [UInt8], path: String) throws(LanguageModelError) {
        self.path = path
        do throws(FormatError) {
            json = try JSONValue.parse(bytes, path: path)
        } catch {
            throw LanguageModelError(.malformed, "\(error)")
        }
        guard json.members != nil else { throw LanguageModelError(.malformed, "\(path): not a JSON object") }
    }

    init(_ json: JSONValue, path: String) {
        self.json = json
        self.path = path
    }

    /// Nil when the key is missing or null.
    func value(_ key: String) -> JSONValue? {
        guard let value = json[key], value != .null else { return nil }
        return value
    }

    func malformed(_ key: String, _ wanted: String) -> LanguageModelError {
        LanguageModelError(.malformed, "\(path): \(key) is not \(wanted)")
    }

    /// Sizes up to this bound keep every product of two of them in range.
    static let maximumSize = 1 << 30

    /// A count that is at least 1.
    func size(_ key: String) throws(LanguageModelError) -> Int? {
        guard let value = value(key) else { return nil }
        guard let number = value.unsigned, number > 0, number <= UInt64(ConfigurationReader.maximumSize) else {
            throw malformed(key, "a number from 1 to \(ConfigurationReader.maximumSize)")
        }
        return Int(number)
    }

    func neededSize(_ key: String, or missing: Int? = nil) throws(LanguageModelError) -> Int {
        guard let size = try size(key) ?? missing else { throw LanguageModelError(.missing, "\(path): no \(key)") }
        return size
    }

    func number(_ key: String) throws(LanguageModelError) -> Double? {
        guard let value = value(key) else { return nil }
        guard let number = value.double, number.isFinite else { throw malformed(key, "a number") }
        return number
    }

    func positive(_ key: String) throws(LanguageModelError) -> Double? {
        guard let number = try number(key) else { return nil }
        guard number > 0 else { throw malformed(key, "above zero") }
        return number
    }

    /// The first of `keys` that is there.
    func positive(_ keys: String..., or missing: Double) throws(LanguageModelError) -> Double {
        for key in keys {
            if let number = try positive(key) { return number }
        }
        return missing
    }

    func size(_ key: String, or missing: Int) throws(LanguageModelError) -> Int {
        guard let size = try size(key) else { return missing }
        return size
    }

    func text(_ keys: String..., or missing: String) throws(LanguageModelError) -> String {
        for key in keys {
            if let text = try text(key) { return text }
        }
        return missing
    }

    /// The first of `keys` that is there.
    func object(_ keys: String...) throws(LanguageModelError) -> ConfigurationReader? {
        for key in keys {
            if let object = try object(key) { return object }
        }
        return nil
    }

    /// Whether the file says nothing about `key`, not even null.
    func isSilent(_ key: String) -> Bool { json[key] == nil }

    func flag(_ key: String, default missing: Bool) throws(LanguageModelError) -> Bool {
        switch value(key) {
        case nil: return missing
        case .bool(let flag): return flag
        default: throw malformed(key, "true or false")
        }
    }

    func text(_ key: String) throws(LanguageModelError) -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.string else { throw malformed(key, "a string") }
        return text
    }

    func object(_ key: String) throws(LanguageModelError) -> ConfigurationReader? {
        guard let value = value(key) else { return nil }
        guard value.members != nil else { throw malformed(key, "an object") }
        return ConfigurationReader(value, path: "\(path): \(key)")
    }

    func texts(_ key: String) throws(LanguageModelError) -> [String]? {
        guard let value = value(key) else { return nil }
        guard let elements = value.array else { throw malformed(key, "a list") }
        var texts: [String] = []
        for element in elements {
            guard let text = element.string else { throw malformed(key, "a list of strings") }
            texts.append(text)
        }
        return texts
    }

    /// Refuses a key that this library does not follow, unless it is missing, null or false.
    func refuse(_ key: String) throws(LanguageModelError) {
        guard let value = value(key), value != .bool(false) else { return }
        throw LanguageModelError(.unsupported, "\(path): \(key) \(ConfigurationReader.shown(value)) is not supported")
    }

    private static func shown(_ value: JSONValue) -> String {
        switch value {
        case .bool(let flag): "\(flag)"
        case .string(let text): "\"\(text)\""
        case .unsigned(let number): "\(number)"
        case .signed(let number): "\(number)"
        case .double(let number): "\(number)"
        default: "as it is set"
        }
    }
}
