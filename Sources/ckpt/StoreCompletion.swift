import ArgumentParser
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What a word of a command line can become, by the store that the line is about.
///
/// While a line is typed, its shell runs `ckpt ---completion COMMAND -- ARGUMENT INDEX CURSOR WORD...` (see `CompletionScript`) and offers the
/// lines that are printed. The store is the one that the command would open. It is only read: nothing waits for a lock. Where there is none, or
/// it cannot be read, nothing is offered, and nothing is said, for the words that are being typed are no place for errors.
extension CompletionKind {
    /// A snapshot: run@step, a run, run~2, a tag or an id.
    static let snapshot = candidates { store, line in try store.snapshots(line.typed) }

    /// Several of them, parted by commas; `auto` is a word for some of them.
    static let snapshots = candidates { store, line in
        let before = line.typed.lastIndex(of: ",").map { String(line.typed[...$0]) } ?? ""
        let found = [Candidate("auto")] + (try store.snapshots(String(line.typed.dropFirst(before.count))))
        return found.map { Candidate(before + $0.name, $0.note) }
    }

    /// A snapshot, or a file or directory.
    static let snapshotOrPath = candidates(besidePaths: true) { store, line in try store.snapshots(line.typed) }

    /// REF:TENSOR. First the snapshots, each with its colon, then the tensors of the one that is named.
    static let tensor = candidates { store, line in
        guard let colon = line.typed.firstIndex(of: ":") else {
            return try store.snapshots(line.typed).map { Candidate($0.name + ":") }
        }
        let ref = line.typed[..<colon]
        return try store.snapshot(String(ref)).tensorNames.map { Candidate("\(ref):\($0)") }
    }

    static let run = candidates { store, _ in
        try store.history().newestFirst.filter(\.isHead).map { Candidate($0.run, "at step \($0.step)") }
    }

    static let tag = candidates { store, _ in try store.tagNames() }

    /// `ckpt tag` takes a tag first, but for `--metric` a snapshot.
    static let tagOrMeasuredSnapshot = candidates { store, line in
        try line.words.contains { $0.hasPrefix("--metric") } ? store.snapshots(line.typed) : store.tagNames()
    }

    static let probe = candidates { store, _ in try store.probeNames() }

    /// A probe, or a file of samples.
    static let probeOrPath = candidates(besidePaths: true) { store, _ in try store.probeNames() }
}

/// A word that is offered, and what shells that can do so show beside it.
private struct Candidate {
    var name: String
    var note: String

    init(_ name: String, _ note: String = "") {
        self.name = name
        self.note = note
    }

    /// Candidates are lines: a name that holds a control character cannot be one.
    var isLine: Bool { !name.isEmpty && !name.unicodeScalars.contains { $0.value < 32 || (127..<160).contains($0.value) } }

    func begins(with typed: String) -> Bool { name.utf8.starts(with: typed.utf8) }

    /// As the script for `shell` takes it.
    func text(for shell: CompletionShell?) -> String {
        switch shell {
        case .zsh?: (escaped(name) + (note.isEmpty ? "" : ":" + note))
        case .fish? where !note.isEmpty: "\(name)\t\(note)"
        default: name
        }
    }

    /// For zsh, where an unescaped colon ends the name.
    private func escaped(_ name: String) -> String {
        name.map { $0 == "\\" || $0 == ":" ? "\\\($0)" : "\($0)" }.joined()
    }
}

/// A line that is being typed.
private struct TypedLine {
    /// Its words, without their quotes.
    let words: [String]
    /// The one to be completed, as far as it is typed.
    let typed: String

    /// - Parameter last: the last word up to the cursor. When another is to be completed, the cursor is taken to stand at its end.
    init(_ words: [String], _ index: Int, last: String) {
        self.words = words.map(TypedLine.unquoted)
        typed = index == words.count - 1 || !words.indices.contains(index) ? TypedLine.unquoted(last) : self.words[index]
    }

    /// The store that the line would open, or as much of its options as says so.
    var options: StoreOptions? {
        var path: String?
        for (word, next) in zip(words, words.dropFirst() + [""]) {
            if word == "--store", !next.isEmpty { path = next }
            if word.hasPrefix("--store=") { path = String(word.dropFirst("--store=".count)) }
        }
        if let rest = path, rest.hasPrefix("~/"), let home = getenv("HOME") { path = String(cString: home) + rest.dropFirst() }
        return try? StoreOptions.parse(path.map { ["--store", $0] } ?? [])
    }

    /// A word as the shell would pass it to a command: shells give it as it is written.
    private static func unquoted(_ word: String) -> String {
        var text = ""
        var quote: Character?
        var isEscaped = false
        for character in word {
            if isEscaped {
                text.append(character)
                isEscaped = false
            } else if character == "\\", quote != "'" {
                isEscaped = true
            } else if character == quote {
                quote = nil
            } else if quote == nil, character == "'" || character == "\"" {
                quote = character
            } else {
                text.append(character)
            }
        }
        return text
    }
}

/// More than this are no help, and take long to print.
private let mostCandidates = 300

/// - Parameter besidePaths: files and directories are offered too; the shells' scripts know that from a line `./`.
private func candidates(besidePaths: Bool = false, _ find: @escaping @Sendable (Store, TypedLine) throws -> [Candidate]) -> CompletionKind {
    .custom { words, index, last in
        let line = TypedLine(words, index, last: last)
        let found = (try? line.options.map { try find($0.open(), line) }) ?? []
        let fitting = fewer(found.filter { $0.isLine && $0.begins(with: line.typed) }, typed: line.typed)
        return fitting.map { $0.text(for: CompletionShell.requesting) } + (besidePaths ? ["./"] : [])
    }
}

/// The first of `candidates`. What these begin with is typed ahead by shells: where they have more in common than all of them, one that
/// tells so is kept too.
private func fewer(_ candidates: [Candidate], typed: String) -> [Candidate] {
    guard candidates.count > mostCandidates else { return candidates }
    func common(_ candidate: Candidate) -> Int { zip(candidate.name.utf8, candidates[0].name.utf8).prefix { $0 == $1 }.count }
    return candidates.prefix(mostCandidates) + [candidates.dropFirst(mostCandidates).min { common($0) < common($1) }!]
}

extension Store {
    /// What a snapshot is named by, the newest first: they are what is mostly meant.
    fileprivate func snapshots(_ typed: String) throws -> [Candidate] {
        if let tilde = typed.lastIndex(of: "~") {
            return try history(of: String(typed[..<tilde])).reversed().enumerated().map { Candidate("\($1.run)~\($0)", "step \($1.step)") }
        }
        let history = try history().newestFirst
        var found = history.filter(\.isHead).map { Candidate($0.run, "step \($0.step), the newest") }
        found += try tagNames()
        found += history.map { Candidate("\($0.run)@\($0.step)", "\($0.id.short), \(Format.time($0.ingested))") }
        // An id begins with any digit: one alone would bring many of them.
        guard typed.count >= 2 else { return found }
        var seen: Set<ContentID> = []
        for entry in history where "\(entry.id)".hasPrefix(typed) && seen.insert(entry.id).inserted {
            let isLong = typed.count > entry.id.short.count
            found.append(Candidate(isLong ? "\(entry.id)" : entry.id.short, "\(entry.run)@\(entry.step)"))
        }
        return found
    }

    fileprivate func tagNames() throws -> [Candidate] { try tags().map { Candidate($0.name, "tag of \($0.id.short)") } }

    fileprivate func probeNames() throws -> [Candidate] {
        try probes().sorted { $0.created > $1.created }.map { Candidate($0.name, Format.count($0.samples, "sample")) }
    }
}

extension Snapshot {
    /// The shortest name that `tensor` finds each under.
    fileprivate var tensorNames: [String] {
        var names: [String] = []
        var seen: Set<String> = []
        for part in parts {
            let times = Dictionary(part.files.flatMap(\.tensors).map { ($0.name, 1) }) { $0 + $1 }
            for file in part.files {
                for tensor in file.tensors {
                    names.append(times[tensor.name] == 1 && !seen.contains(tensor.name) ? tensor.name : "\(file.path):\(tensor.name)")
                }
            }
            seen.formUnion(times.keys)
        }
        return names
    }
}

extension [HistoryEntry] {
    fileprivate var newestFirst: [HistoryEntry] { sorted { ($0.ingested, $0.step) > ($1.ingested, $1.step) } }
}
