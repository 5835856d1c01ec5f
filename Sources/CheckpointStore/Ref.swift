internal import LMDB

/// How people name a snapshot: `run@step`, `run` (its head), `run~2` (two steps before the head), a tag, or a
/// unique prefix of an id, of four digits or more.
enum Ref {
    /// Fewer digits than this are more likely a mistyped name.
    static let minimumPrefix = 4

    /// - Throws: `.noSuchRef`, saying what there is instead.
    static func resolve<T: Transaction & ~Copyable>(
        _ text: String, _ transaction: borrowing T, _ tables: Tables
    ) throws -> ContentID {
        if let at = text.lastIndex(of: "@") {
            return try step(String(text[..<at]), String(text[text.index(after: at)...]), text, transaction, tables)
        }
        if let tilde = text.lastIndex(of: "~") {
            return try ancestor(String(text[..<tilde]), String(text[text.index(after: tilde)...]), text, transaction, tables)
        }
        if let head = try transaction.head(tables, of: text) { return head.record.snapshot }
        if !text.isEmpty, text.utf8.count <= 500, let value = try transaction.record(tables, .tag, Array(text.utf8)) {
            return try ContentID(value)
        }
        if let id = try prefix(text, transaction, tables) { return id }
        let runs = try transaction.runNames(tables)
        let known = runs.isEmpty ? "the store is empty" : "runs here: \(runs.prefix(5).joined(separator: ", "))"
        throw StoreError(.noSuchRef, "\(text): no such run, tag or snapshot id", hint: known)
    }

    private static func step<T: Transaction & ~Copyable>(
        _ run: String, _ number: String, _ text: String, _ transaction: borrowing T, _ tables: Tables
    ) throws -> ContentID {
        guard let head = try transaction.head(tables, of: run) else {
            throw StoreError(.noSuchRef, "\(text): no run \"\(run)\"", hint: "ckpt log lists the runs")
        }
        guard let step = UInt64(number), let record = try transaction.stepRecord(tables, run: run, step: step) else {
            throw StoreError(
                .noSuchRef, "\(text): run \"\(run)\" has no step \(number)",
                hint: "its newest is \(head.step); ckpt log \(run) lists them")
        }
        return record.snapshot
    }

    private static func ancestor<T: Transaction & ~Copyable>(
        _ run: String, _ distance: String, _ text: String, _ transaction: borrowing T, _ tables: Tables
    ) throws -> ContentID {
        guard let back = Int(distance.isEmpty ? "1" : distance), back >= 0 else {
            throw StoreError(.noSuchRef, "\(text): \"\(distance)\" is no number of steps back")
        }
        var snapshots: [ContentID] = []
        try transaction.steps(tables, of: run) { _, _, record in
            snapshots.append(record.snapshot)
            return true
        }
        guard !snapshots.isEmpty else {
            throw StoreError(.noSuchRef, "\(text): no run \"\(run)\"", hint: "ckpt log lists the runs")
        }
        guard back < snapshots.count else {
            throw StoreError(.noSuchRef, "\(text): run \"\(run)\" has only \(snapshots.count) snapshot\(snapshots.count == 1 ? "" : "s")")
        }
        return snapshots[snapshots.count - 1 - back]
    }

    private static func prefix<T: Transaction & ~Copyable>(
        _ text: String, _ transaction: borrowing T, _ tables: Tables
    ) throws -> ContentID? {
        guard text.utf8.count >= minimumPrefix, text.utf8.count <= 64, let nibbles = Hex.nibbles(text) else { return nil }
        var start = [UInt8](repeating: 0, count: ContentID.byteCount)
        for (index, nibble) in nibbles.enumerated() { start[index / 2] |= index % 2 == 0 ? nibble << 4 : nibble }
        var found: [ContentID] = []
        try transaction.scan(tables[.snapshot], from: start) { key, _ in
            let id = try ContentID(key.withUnsafeBytes { Array($0) })
            guard id.description.hasPrefix(text.lowercased()) else { return false }
            found.append(id)
            return found.count < 2
        }
        guard found.count < 2 else {
            throw StoreError(
                .noSuchRef, "\(text): more than one snapshot id begins so: \(found[0].short)..., \(found[1].short)...",
                hint: "give more digits")
        }
        return found.first
    }
}

/// The names that runs and tags may have.
enum Name {
    /// LMDB keys end at 511 bytes.
    private static let maximumBytes = 200
    private static let reserved: Set<Character> = ["@", "~", ":", "/", "\\"]

    /// - Throws: `.badInput` saying what is wrong with `name`.
    static func check(_ name: String, _ what: String) throws {
        let isTooLong = name.utf8.count > maximumBytes
        let bad = name.first { reserved.contains($0) || $0.isWhitespace || $0.unicodeScalars.contains { $0.value < 32 || $0.value == 127 } }
        guard !name.isEmpty, !isTooLong, bad == nil, !name.hasPrefix("-") else {
            let reason =
                name.isEmpty ? "is empty" : isTooLong ? "is over \(maximumBytes) bytes"
                : name.hasPrefix("-") ? "begins with \"-\"" : "holds \"\(bad!)\""
            throw StoreError(.badInput, "\(what) name \"\(name)\" \(reason)", hint: "use letters, digits, \".\", \"_\" and \"-\"")
        }
    }
}
