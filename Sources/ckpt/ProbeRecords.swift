import CheckpointReports
import CheckpointStore

/// The entropy records on a probe, as text and as JSON.
struct ProbeRecords {
    private let records: [EntropyRecord]
    /// A run and step for each snapshot that has one.
    private let refs: [ContentID: String]

    init(_ store: Store, _ probe: ContentID) throws(StoreError) {
        records = try store.entropyRecords(probe: probe)
        var refs: [ContentID: String] = [:]
        for entry in try store.history() where refs[entry.id] == nil { refs[entry.id] = "\(entry.run)@\(entry.step)" }
        self.refs = refs
    }

    private func ref(_ id: ContentID) -> String { refs[id] ?? id.short }

    /// Nil when there are none.
    var text: String? {
        guard !records.isEmpty else { return nil }
        var table = TextTable([
            .init(title: "RECORD"), .init(title: "OF", shrinks: true), .init(title: "SETTINGS", shrinks: true), .init(title: "SAMPLES", isNumber: true),
            .init(title: "TOKENS", isNumber: true), .init(title: "FROM", shrinks: true),
        ])
        for record in records {
            table.add([
                record.key.id.short, ref(record.key.snapshot), settings(record), "\(record.samplesDone) of \(record.samplesTotal)", "\(record.tokens)",
                Provenance.words(record.provenance),
            ])
        }
        return table.text(width: Console.width)
    }

    private func settings(_ record: EntropyRecord) -> String {
        record.key.settings.sorted { $0.key < $1.key }.map { key, value in
            "\(key)=\(key == "weak" ? ContentID(digits: value).map(ref) ?? value : value)"
        }.joined(separator: " ")
    }

    var json: JSONOutput {
        .array(records.map { $0.json(ref: refs[$0.key.snapshot]) })
    }
}
