internal import TensorFormats

/// A file of one JSON object a line: UTF-8, with or without a byte order mark, lines ended by LF or CRLF, blank ones left out.
struct JSONLines {
    /// Bytes a file may have.
    static let maximumBytes = 1 << 30

    private let path: String
    private let bytes: [UInt8]

    /// - Parameter path: `-` is standard input; a pipe is read to its end.
    /// - Throws: `.badInput` when the file is missing, a directory or over `maximumBytes`, `.failed` when it cannot be read.
    init(_ path: String) throws {
        self.path = path == "-" ? "standard input" : path
        bytes = try FileSystem.streamed(path == "-" ? "/dev/stdin" : path, limit: JSONLines.maximumBytes)
    }

    /// Calls `body` with each line that is not blank. O(bytes); memory for one line at a time.
    ///
    /// - Throws: `.badInput` as `file:line` where a line is not one JSON object, and what `body` throws.
    func forEach(_ body: (JSONLine) throws -> Void) throws {
        var start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var number = 0
        while start < bytes.count {
            let end = bytes[start...].firstIndex(of: 0x0A) ?? bytes.count
            number += 1
            let text = bytes[start..<end]
            if !text.allSatisfy({ [0x20, 0x09, 0x0D].contains($0) }) {
                try body(JSONLine(place: "\(path):\(number)", number: number, text: Array(text)))
            }
            start = end + 1
        }
    }
}

/// One line of such a file.
struct JSONLine {
    /// `file:line`, as errors name it.
    let place: String
    let number: Int
    let value: JSONValue

    init(place: String, number: Int, text: [UInt8]) throws {
        self.place = place
        self.number = number
        do {
            value = try JSONValue.parse(text, path: place)
        } catch {
            throw JSONLine.notFinite(text, place)
                ?? StoreError(.badInput, "\(error)", hint: "one object a line, each whole on its line")
        }
        guard let members = value.members else {
            throw StoreError(.badInput, "\(place): not a JSON object", hint: "one object a line: {\"id\": ..., ...}")
        }
        var keys: Set<ExactName> = []
        if let twice = members.first(where: { !keys.insert(ExactName($0.key)).inserted }) { throw failure(twice.key, "is there twice") }
    }

    /// The error for a line that is JSON but for NaN and infinities, as Python writes them; nil for others.
    private static func notFinite(_ text: [UInt8], _ place: String) -> StoreError? {
        let text = String(decoding: text, as: UTF8.self)
        let words = ["-Infinity", "Infinity", "NaN"]
        guard let word = words.first(where: { text.contains($0) }) else { return nil }
        let cleaned = words.reduce(text) { $0.replacing($1, with: "null") }
        guard let value = try? JSONValue.parse(Array(cleaned.utf8), path: place) else { return nil }
        let name = value["id"]?.string ?? value["id"]?.unsigned.map { "\($0)" } ?? "?"
        return StoreError(.badInput, "\(place): sample \"\(name)\" holds \(word)", hint: "figures are finite")
    }

    /// The value of `key`; nil where it is missing or null.
    subscript(key: String) -> JSONValue? {
        guard let found = value[key], found != .null else { return nil }
        return found
    }

    func failure(_ key: String, _ reason: String, hint: String? = nil) -> StoreError {
        StoreError(.badInput, "\(place): \"\(key)\" \(reason)", hint: hint)
    }

    /// The sample's id: a text or an integer; without one, the number of the line.
    func id() throws -> String {
        switch self["id"] {
        case nil: return "\(number)"
        case .string(let text)?:
            guard !text.isEmpty else { throw failure("id", "is empty") }
            return text
        case .unsigned(let number)?: return "\(number)"
        case .signed(let number)?: return "\(number)"
        default: throw failure("id", "is no text and no integer of 64 bits")
        }
    }

    /// The text under `key`.
    func string(_ key: String, hint: String) throws -> String {
        guard let found = self[key] else { throw failure(key, value[key] == nil ? "is missing" : "is null", hint: hint) }
        guard let text = found.string else { throw failure(key, "is no text", hint: hint) }
        return text
    }
}
