import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Samples that a command was given by a file or by a probe's name: a file becomes a probe of the store.
enum SampleSource {
    /// - Parameters:
    ///   - source: a file of JSON lines where there is one, else the name of a probe or a unique prefix of its id.
    ///   - tokenizer: a directory or a snapshot with a tokenizer.json, for samples that are text.
    ///   - keys: the members of its lines that hold prompt and completion; nil: the usual ones.
    /// - Returns: the probe's id.
    static func probe(_ source: String, tokenizer: String, _ keys: ProbeFile.TextKeys?, _ store: Store) throws(StoreError) -> ContentID {
        guard access(source, F_OK) == 0 else {
            do throws(StoreError) {
                return try store.probe(source).id
            } catch where error.code == .noSuchRef {
                throw StoreError(.noSuchRef, "\(source): neither a file nor a probe", hint: "ckpt probe ls lists the probes")
            }
        }
        let lines = try ProbeFile.read(source, keys: keys)
        // Samples that are tokens already need no tokenizer.
        let isText = lines.contains { $0.sample == nil }
        let samples = try ProbeTokenizer(isText ? tokenizer : nil, appendsEnd: true, file: source, store)
        let probe = try Probe(lines: lines, tokenizer: samples.id, piece: samples.piece, tokenize: samples.sample)
        samples.noteLosses(lines)
        let id = probe.id
        if try store.probes().contains(where: { $0.id == id }) { return id }
        let file = source.split(separator: "/").last.map(String.init) ?? source
        let stem = file.split(separator: ".").first.map(String.init) ?? file
        let name = "\(stem)-\("\(id)".prefix(8))"
        return try store.addProbe(probe, name: name)
    }
}
