public import CheckpointStore

extension Store {
    /// Takes outputs that another program made into the record of `ref` on the probe called `probe`, under settings written as this
    /// program writes them: so the record is the one that commands read, where it is one of those.
    ///
    /// - Parameter name: where the outputs come from, for errors.
    /// - Throws: `.badInput` for outputs of another snapshot, and for columns that are not those of such a record; what
    ///   `importOutputs` throws. The store is unchanged then.
    public func importRecord(_ file: EntropyFile, of ref: String, on probe: String, name: String) throws(StoreError) -> EntropyRecord {
        let snapshot = try self.snapshot(ref).id
        let (id, _, probe) = try self.probe(probe)
        var file = file
        file.settings = try RecordSettings.canonical(file.settings, on: probe) { text throws(StoreError) in try self.snapshot(text).id }
        if let made = file.provenance["snapshot"], made != "\(snapshot)" {
            throw StoreError(
                .badInput, "\(name): its provenance says that it was made of snapshot \(made.prefix(12)), and \(ref) is \(snapshot.short)")
        }
        if let columns = RecordSettings.columns(under: file.settings), columns != Set(file.columns) {
            let names = columns.sorted().map(\.name).joined(separator: ", ")
            throw StoreError(
                .badInput, "\(name): columns \(file.columns.map(\.name).joined(separator: ", ")) under settings that ckpt itself uses",
                hint: "those have \(names); else add a setting of your own")
        }
        return try importOutputs(file, of: snapshot, on: "\(id)")
    }
}
