/// Named texts of an entropy record: its settings and its provenance.
enum Settings {
    static let maximumKeyBytes = 64
    /// Of all names and texts together.
    static let maximumBytes = 64 << 10

    /// Names are short ASCII words, so that equal ones are the same bytes.
    static func isKey(_ key: String) -> Bool {
        (1...maximumKeyBytes).contains(key.utf8.count)
            && key.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
                    true
                default: false
                }
            }
    }

    /// - Throws: `.badInput` naming the key.
    static func check(_ settings: [String: String], _ what: String) throws {
        if let key = settings.keys.sorted().first(where: { !isKey($0) }) {
            throw StoreError(
                .badInput, "\(what) \"\(key)\" is no name", hint: "up to \(maximumKeyBytes) letters, digits, \"_\", \"-\" and \".\"")
        }
        guard settings.reduce(0, { $0 + $1.key.utf8.count + $1.value.utf8.count }) <= maximumBytes else {
            throw StoreError(.badInput, "\(what): over \(maximumBytes >> 10) KiB")
        }
    }
}

extension ByteWriter {
    /// Keys and values, in byte order of the keys.
    mutating func put(settings: [String: String]) {
        put(UInt32(settings.count))
        for (key, value) in settings.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            put(key)
            put(value)
        }
    }
}

extension ByteReader {
    mutating func takeSettings() throws -> [String: String] {
        var settings: [String: String] = [:]
        var last = ""
        for _ in 0..<(try takeCount(itemBytes: 9)) {
            let key = try takeString()
            guard Settings.isKey(key), last.utf8.lexicographicallyPrecedes(key.utf8) else {
                throw damage("setting \"\(key)\" is no name or out of order")
            }
            settings[key] = try takeString()
            last = key
        }
        return settings
    }
}
