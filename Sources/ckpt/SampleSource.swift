import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Samples that a command was given by a file or by a probe's name.
enum SampleSource {
    /// A file's lines, not tokens yet.
    case lines([ProbeLine], file: String)
    case probe(Probe, ContentID)

    /// A probe, unless there is a file of that name that looks like one, or no probe has the name.
    ///
    /// - Parameter keys: the members of a file's lines that hold prompt and completion; nil: the usual ones.
    init(_ name: String, keys: ProbeFile.TextKeys?, _ options: StoreOptions) throws(StoreError) {
        let exists = name == "-" || access(name, F_OK) == 0
        let looksLikeFile = name == "-" || name.contains("/") || name.hasSuffix(".jsonl") || name.hasSuffix(".json")
        if !(exists && looksLikeFile) {
            do throws(StoreError) {
                let stored = try options.open().probe(name)
                self = .probe(stored.probe, stored.id)
                return
            } catch {
                guard error.code == .noSuchRef || error.code == .noStore, exists else {
                    guard error.code == .noSuchRef else { throw error }
                    throw StoreError(.noSuchRef, "\(name): neither a file nor a probe", hint: "ckpt probe ls lists the probes")
                }
            }
        }
        self = .lines(try ProbeFile.read(name, keys: keys), file: name)
    }

    /// The id of the probe; a file's lines become one, named for the file and its content.
    ///
    /// - Parameter tokenizer: a directory or a snapshot with a tokenizer.json, for samples that are text.
    func kept(in store: Store, tokenizer: String) throws(StoreError) -> ContentID {
        switch self {
        case .probe(_, let id): return id
        case .lines(let lines, let file):
            // Samples that are tokens already need no tokenizer.
            let isText = lines.contains { $0.sample == nil }
            let samples = try ProbeTokenizer(isText ? tokenizer : nil, appendsEnd: true, file: file, store)
            let probe = try Probe(lines: lines, tokenizer: samples.id, piece: samples.piece, tokenize: samples.sample)
            samples.noteLosses(lines)
            let id = probe.id
            if try store.probes().contains(where: { $0.id == id }) { return id }
            let name = file.split(separator: "/").last?.split(separator: ".").first.map(String.init) ?? "samples"
            return try store.addProbe(probe, name: "\(name)-\("\(id)".prefix(8))")
        }
    }
}

extension ProbeFile.TextKeys {
    /// As options name them; nil where none does.
    init?(prompt: String?, completion: String?) {
        guard prompt != nil || completion != nil else { return nil }
        self.init(prompt: prompt ?? "prompt", completion: completion ?? "completion")
    }
}
