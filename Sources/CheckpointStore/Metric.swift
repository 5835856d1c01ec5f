internal import LMDB
internal import TensorFormats

/// Figures of snapshots by which they are kept: given to the store, or from what a trainer wrote beside the weights.
enum Metric {
    private static let maximumBytes = 100

    /// - Throws: `.badInput` for what can be no metric's name.
    static func check(name: String) throws(StoreError) {
        let isName = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
                UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "/"): true
            default: false
            }
        }
        guard isName, (1...maximumBytes).contains(name.utf8.count) else {
            throw StoreError(
                .badInput, "\"\(name)\" is no name of a metric", hint: "up to \(maximumBytes) letters, digits, \"_\", \"-\", \".\" and \"/\"")
        }
    }

    /// - Throws: `.badInput` for a name or a value that cannot be.
    static func check(name: String, _ value: Double) throws(StoreError) {
        try check(name: name)
        guard value.isFinite else { throw StoreError(.badInput, "metric \(name): \(value) is no finite number") }
    }

    static func key(_ id: ContentID, _ name: String) -> [UInt8] { id.bytes + Array(name.utf8) }

    static func decodeKey(_ key: [UInt8]) throws -> (id: ContentID, name: String) {
        guard key.count > ContentID.byteCount, let name = String(validating: key.dropFirst(ContentID.byteCount), as: UTF8.self) else {
            throw StoreError(.damaged, "store: metric key \(Hex.string(key))", hint: "run ckpt verify")
        }
        return (try ContentID(Array(key.prefix(ContentID.byteCount))), name)
    }

    static func encode(_ value: Double) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(value.bitPattern)
        return writer.bytes
    }

    static func decode(_ value: [UInt8]) throws -> Double {
        var reader = ByteReader(value, "store: metric")
        let number = Double(bitPattern: try reader.take())
        try reader.finish()
        guard number.isFinite else { throw reader.damage("not a finite number") }
        return number
    }

    /// Those that a Hugging Face trainer's state names for its step, and that `ckpt train` wrote.
    static func written(_ files: Sidecars) throws -> [String: Double] {
        var metrics: [String: Double] = [:]
        if let bytes = try files.contents("trainer_state.json"), let state = try? JSONValue.parse(bytes, path: "trainer_state.json", isLenient: true),
            let step = state["global_step"]?.double
        {
            // The history of all steps: later lines of this one are newer.
            for line in state["log_history"]?.array ?? [] where line["step"]?.double == step { take(line, into: &metrics) }
        }
        if let bytes = try files.contents("ckpt_training.json"), let note = try? JSONValue.parse(bytes, path: "ckpt_training.json"),
            let figures = note["metrics"]
        {
            take(figures, into: &metrics)
        }
        return metrics
    }

    private static func take(_ object: JSONValue, into metrics: inout [String: Double]) {
        for member in object.members ?? [] where member.key != "step" {
            guard let value = member.value.double, value.isFinite, (try? check(name: member.key)) != nil else { continue }
            metrics[member.key] = value
        }
    }
}

extension Transaction where Self: ~Copyable {
    /// The metrics that were given to the snapshot.
    func metrics(_ tables: Tables, of id: ContentID) throws -> [String: Double] {
        var metrics: [String: Double] = [:]
        try records(tables, .metric, from: id.bytes) { key, value in
            let (owner, name) = try Metric.decodeKey(key)
            guard owner == id else { return false }
            metrics[name] = try Metric.decode(value)
            return true
        }
        return metrics
    }
}

extension WriteTransaction {
    func removeMetrics(_ tables: Tables, of id: ContentID) throws {
        guard let table = tables.find(.metric) else { return }
        for name in try metrics(tables, of: id).keys { try delete(table, Metric.key(id, name)) }
    }
}

extension Store {
    /// Gives the snapshot `ref` a figure, in the place of one of the same name.
    ///
    /// - Throws: `.badInput` for a name or a value that cannot be.
    public func setMetric(_ name: String, _ value: Double, of ref: String) throws(StoreError) {
        try Metric.check(name: name, value)
        try throwingStoreErrors {
            try write(making: .retention) { transaction, tables in
                let id = try Ref.resolve(ref, transaction, tables)
                try transaction.putRecord(tables, .metric, Metric.key(id, name), Metric.encode(value))
            }
        }
    }

    /// - Throws: `.noSuchRef` when the snapshot was given none of that name.
    public func removeMetric(_ name: String, of ref: String) throws(StoreError) {
        try throwingStoreErrors {
            try write { transaction, tables in
                let id = try Ref.resolve(ref, transaction, tables)
                guard let table = tables.find(.metric), try transaction.delete(table, Metric.key(id, name)) else {
                    throw StoreError(.noSuchRef, "\(ref): was given no metric \"\(name)\"")
                }
            }
        }
    }

    /// The figures of the snapshot `ref`: those that its trainer wrote for its step (`trainer_state.json`, `ckpt_training.json`), and
    /// those that it was given, which come first.
    ///
    /// - Complexity: O(bytes of those files).
    public func metrics(of ref: String) throws(StoreError) -> [String: Double] {
        let files = try sidecars(ref)
        return try throwingStoreErrors {
            let given = try readAll { transaction, tables in try transaction.metrics(tables, of: Ref.resolve(ref, transaction, tables)) }
            return try Metric.written(files).merging(given) { $1 }
        }
    }
}
