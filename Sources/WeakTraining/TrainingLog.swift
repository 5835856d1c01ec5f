internal import CheckpointStore
internal import TensorFormats

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// One line of JSON for each step and each snapshot, for plots. Never part of a snapshot: it has times in it.
final class TrainingLog {
    private let path: String
    private let descriptor: Int32

    /// Opens the log to go on behind step `step`: lines of later ones, which were not to count, are dropped.
    ///
    /// - Throws: `.badInput` for a file that is there and no log: it would be lost.
    init(_ path: String, step: Int) throws(StoreError) {
        self.path = path
        let lines = try TrainingLog.checkedLines(path)
        let kept = step == 0 ? [] : lines.filter { ($0["step"]?.unsigned).map { $0 <= UInt64(step) } ?? false }
        let file = try DurableFile(path)
        for line in kept { try file.append(Array((line.text + "\n").utf8)) }
        try file.finish()
        descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC)
        guard descriptor >= 0 else { throw StoreError(.failed, "\(path): open: \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    /// Adds a line. A log that cannot be written stops no training: it is only for plots.
    func add(_ line: JSONValue) {
        let bytes = Array((line.text + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress!, $0.count) }
    }

    private static func checkedLines(_ path: String) throws(StoreError) -> [JSONValue] {
        var status = stat()
        guard lstat(path, &status) == 0 else { return [] }
        let lines = status.st_mode & S_IFMT == S_IFREG ? lines(path) : []
        guard lines.first?["step"] != nil || (status.st_mode & S_IFMT == S_IFREG && status.st_size == 0) else {
            throw StoreError(.badInput, "\(path): it is there, and is no log of a training", hint: "another --log")
        }
        return lines
    }

    /// The lines of a log, those that are cut left out.
    static func lines(_ path: String) -> [JSONValue] {
        guard let map = try? MappedFile(path) else { return [] }
        return withExtendedLifetime(map) {
            map.bytes.split(separator: UInt8(ascii: "\n")).compactMap { try? JSONValue.parse(Array($0), path: path) }
        }
    }
}

extension JSONValue {
    /// An object of what is not nil.
    static func members(_ members: KeyValuePairs<String, JSONValue?>) -> JSONValue {
        .object(members.compactMap { key, value in value.map { Member(key: key, value: $0) } })
    }
}
