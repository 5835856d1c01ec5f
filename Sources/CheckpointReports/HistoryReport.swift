package import CheckpointStore

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

extension HistoryEntry {
    /// As `ckpt log --json` has it.
    package var json: JSONOutput {
        [
            "ref": .string("\(run)@\(step)"), "run": .string(run), "step": .unsigned(step),
            "id": .string("\(id)"), "parent": .optional(parent.map { "\($0)" }),
            "ingested": .string(Timestamp.text(ingested)), "source": .string(source),
            "raw_bytes": .unsigned(rawBytes), "files": .int(files), "tensors": .int(tensors),
            "head": .bool(isHead), "image": .bool(hasImage), "pinned": .bool(isPinned),
            "tags": .strings(tags), "optimizer_left_out_files": .int(leftOutFiles),
            "optimizer_left_out_bytes": .unsigned(leftOutBytes),
            "dropped": .strings(dropped.map { "\($0)" }),
        ]
    }
}

package enum Timestamp {
    /// RFC 3339 in UTC, to the second, of nanoseconds since 1970.
    package static func text(_ nanoseconds: Int64) -> String {
        var seconds = time_t(nanoseconds / 1_000_000_000)
        var parts = tm()
        gmtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 64)
        let count = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
