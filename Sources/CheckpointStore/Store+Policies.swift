internal import LMDB
internal import TensorFormats

extension Store {
    /// Saves `policy` for `run`, or for all runs that have none of their own (nil).
    public func savePolicy(_ policy: RetentionPolicy, for run: String?) throws(StoreError) {
        try policy.check()
        try throwingStoreErrors {
            if let run { try Name.check(run, "run") }
            try write(making: .retention) { transaction, tables in
                try transaction.putRecord(tables, .policy, PolicyKey.encode(run), Array(policy.json.text.utf8))
            }
        }
    }

    /// Forgets the policy of `run`, or that of all others (nil). Returns whether there was one.
    @discardableResult
    public func removePolicy(for run: String?) throws(StoreError) -> Bool {
        try throwingStoreErrors {
            try write { transaction, tables in
                guard let table = tables.find(.policy) else { return false }
                return try transaction.delete(table, PolicyKey.encode(run))
            }
        }
    }

    /// All saved policies, that of all other runs (nil) first.
    public func policies() throws(StoreError) -> [(run: String?, policy: RetentionPolicy)] {
        try throwingStoreErrors {
            try readAll { transaction, tables in
                var policies: [(run: String?, policy: RetentionPolicy)] = []
                try transaction.records(tables, .policy) { key, value in
                    policies.append((try PolicyKey.decode(key), try RetentionPolicy(encoded: value)))
                    return true
                }
                return policies
            }
        }
    }

    /// The saved policy that `run` follows.
    public func policy(of run: String) throws(StoreError) -> RetentionPolicy? {
        try throwingStoreErrors {
            try readAll { transaction, tables in
                let own = try transaction.record(tables, .policy, PolicyKey.encode(run))
                let bytes = try own ?? transaction.record(tables, .policy, PolicyKey.encode(nil))
                return try bytes.map { bytes in try RetentionPolicy(encoded: bytes) }
            }
        }
    }
}

extension RetentionPolicy {
    init(encoded: [UInt8]) throws {
        let what = "store: policy"
        guard let json = try? JSONValue.parse(encoded, path: what) else { throw StoreError(.damaged, "\(what): no JSON", hint: "run ckpt verify") }
        try self.init(json, what: what)
    }
}

/// The key of a policy: a zero byte for that of all runs without one, else the run's name.
enum PolicyKey {
    static func encode(_ run: String?) -> [UInt8] { run.map { Array($0.utf8) } ?? [0] }

    static func decode(_ key: [UInt8]) throws -> String? {
        if key == [0] { return nil }
        guard let run = String(validating: key, as: UTF8.self) else {
            throw StoreError(.damaged, "store: policy key \(Hex.string(key))", hint: "run ckpt verify")
        }
        return run
    }
}
