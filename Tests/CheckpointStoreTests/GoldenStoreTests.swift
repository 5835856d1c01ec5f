import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// The stores in `format-spec/golden`, which `tools/reference/golden` makes and the Python reader reads too.
struct GoldenStoreTests {
    static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "format-spec/golden")

    static let expected: Expected? = {
        guard let data = try? Data(contentsOf: directory.appending(path: "expected.json")) else { return nil }
        return try? JSONDecoder().decode(Expected.self, from: data)
    }()

    @Test func expectedIsThere() {
        #expect(Self.expected != nil)
    }

    @Test(arguments: GoldenStoreTests.expected?.stores.keys.sorted() ?? [])
    func wholeStoresVerify(_ name: String) throws {
        try withCopy(of: name) { path, _ in
            let report = try Store.verify(path, depth: .full)
            #expect(report.problems.map(\.description) == [])
            #expect(report.snapshots > 0 && report.blocks > 0)
        }
    }

    @Test(arguments: GoldenStoreTests.expected?.stores.keys.sorted() ?? [])
    func wholeStoresExportEveryFile(_ name: String) throws {
        try expectExports(of: name, #require(Self.expected?.stores[name]))
    }

    @Test(arguments: GoldenStoreTests.expected?.broken.keys.sorted() ?? [])
    func brokenStoresExportWhatIsNotHarmed(_ name: String) throws {
        try expectExports(of: name, Self.expected?.broken[name]?.readable ?? [:])
    }

    @Test(arguments: GoldenStoreTests.expected?.broken.keys.sorted() ?? [])
    func brokenStoresAreNamed(_ name: String) throws {
        let wanted = try #require(Self.expected?.broken[name])
        try withCopy(of: name) { path, _ in
            let said: String
            if wanted.exit == 65 {
                let error = try #require(throws: StoreError.self) { try Store.verify(path, depth: .full) }
                #expect(error.code == .incompatible)
                said = error.description
            } else {
                let report = try Store.verify(path, depth: .full)
                #expect(!report.problems.isEmpty)
                said = report.problems.map(\.description).joined(separator: "\n")
            }
            for word in wanted.words {
                #expect(said.contains(word))
            }
        }
    }

    @Test(arguments: GoldenStoreTests.expected?.probes.keys.sorted() ?? [])
    func probesAndFigures(_ name: String) throws {
        let wanted = try #require(Self.expected?.probes[name])
        try withCopy(of: name) { path, _ in
            let store = try Store.open(path)
            #expect(try store.probes().map(\.name) == wanted.probes.map(\.name))
            for expected in wanted.probes {
                let (id, _, probe) = try store.probe(expected.name)
                #expect("\(id)" == expected.id && probe.tokenizer.map { "\($0)" } == expected.tokenizer)
                #expect(probe.samples.map(Expected.Sample.init) == expected.samples)
                #expect(probe.pieces.map { "\($0.key) \($0.value)" }.sorted() == expected.pieceTexts)
            }
            let records = try store.entropyRecords().sorted { $0.key.id < $1.key.id }
            #expect(records.map { "\($0.key.id)" } == wanted.entropies.map(\.id))
            for (record, expected) in zip(records, wanted.entropies) {
                #expect("\(record.key.snapshot)" == expected.snapshot && "\(record.key.probe)" == expected.probe)
                #expect(record.key.settings == expected.settings && record.provenance == expected.provenance)
                #expect(record.samplesTotal == expected.sample_count && record.samplesDone == expected.rows.count)
                let outputs = try store.outputs(of: record.key)
                #expect(outputs == expected.rows.map { $0.outputs(record.columns) }.sorted { $0.sample < $1.sample })
                // The same figures again change nothing.
                try store.appendOutputs(outputs, to: record.key)
            }
        }
    }

    @Test(arguments: GoldenStoreTests.expected?.retention.keys.sorted() ?? [])
    func metricsAndPolicies(_ name: String) throws {
        let wanted = try #require(Self.expected?.retention[name])
        try withCopy(of: name) { path, _ in
            let store = try Store.open(path)
            for (ref, metrics) in wanted.metrics { #expect(try store.metrics(of: ref) == metrics) }
            let policies = try store.policies()
            #expect(policies.map(\.run) == wanted.policies.map(\.run))
            for (found, expected) in zip(policies, wanted.policies) {
                let rules = try JSONSerialization.jsonObject(with: Data(found.policy.json.text.utf8)) as? NSDictionary
                #expect(rules == (try JSONSerialization.jsonObject(with: expected.rules) as? NSDictionary))
            }
            // What the run's policy drops, from what is left of it.
            let plan = try store.plan(try #require(try store.policy(of: "run")))
            #expect(plan.dropped.map(\.ref) == [])
        }
    }

    /// Stores from before there were probes: none in them, and the first one can be added.
    @Test(arguments: ["v1-valid", "v1-pending"]) func storesWithoutProbes(_ name: String) throws {
        try withCopy(of: name) { path, _ in
            let store = try Store.open(path)
            #expect(try store.probes().isEmpty && store.entropyRecords().isEmpty)
            let stats = try store.stats()
            #expect(stats.probes == 0 && stats.probeBytes == 0 && stats.entropyRecords == 0 && stats.entropyBytes == 0)
            let snapshot = try #require(try store.history().first).id
            let probe = try ProbeFixture.small()
            let key = EntropyKey(snapshot: snapshot, probe: probe.id)
            #expect(try store.entropyRecord(key) == nil)
            #expect { try store.removeProbe("p") } throws: { ($0 as? StoreError)?.code == .noSuchRef }
            #expect { try store.removeEntropyRecord(key) } throws: { ($0 as? StoreError)?.code == .noSuchRef }
            try store.addProbe(probe, name: "p")
            try store.beginEntropyRecord(key, columns: [.nll], provenance: [:])
            try store.appendOutputs(ProbeFixture.outputs(probe, [.nll], seed: 1), to: key)
            #expect(try Store.open(path).entropyRecord(key)?.isComplete == true)
            #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
        }
    }

    // MARK: - Support

    private func expectExports(of name: String, _ refs: [String: Expected.Contents]) throws {
        guard !refs.isEmpty else { return }
        try withCopy(of: name) { path, directory in
            let store = try Store.open(path)
            for (index, ref) in refs.keys.sorted().enumerated() {
                let target = "\(directory)/export-\(index)"
                try store.export(ref, to: target)
                let exported = try contents(of: target)
                #expect(exported == refs[ref]?.files, "files of \(ref)")
            }
        }
    }

    struct Expected: Decodable {
        /// Store to ref to what is in it.
        var stores: [String: [String: Contents]]
        var broken: [String: Broken]
        /// Of some of the whole stores.
        var probes: [String: Records]
        var retention: [String: Retention]

        struct Retention: Decodable {
            /// Ref to name to value.
            var metrics: [String: [String: Double]]
            var policies: [Policy]
        }

        struct Policy: Decodable {
            var run: String?
            /// JSON.
            var rules: Data

            private enum Key: CodingKey { case run, rules }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Key.self)
                run = try container.decode(String?.self, forKey: .run)
                rules = try JSONEncoder().encode(container.decode(AnyJSON.self, forKey: .rules))
            }
        }

        struct Records: Decodable {
            var probes: [Probe]
            var entropies: [Entropies]
        }

        struct Probe: Decodable {
            var name: String
            var id: String
            var tokenizer: String?
            var samples: [Sample]
            /// Token to bytes in hexadecimal digits.
            var pieces: [String: String]

            var pieceTexts: [String] {
                pieces.map { token, digits in
                    let digits = Array(digits)
                    let bytes = stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...($0 + 1)]), radix: 16)! }
                    return "\(token) \(bytes)"
                }.sorted()
            }
        }

        struct Sample: Decodable, Equatable {
            var id: String
            var tokens: [Int32]
            var supervised: [[Int]]
            var prompt: String?
            var completion: String?

            init(_ sample: ProbeSample) {
                id = sample.id
                tokens = sample.tokens
                supervised = sample.supervised.map { [$0.lowerBound, $0.upperBound] }
                prompt = sample.prompt
                completion = sample.completion
            }
        }

        struct Entropies: Decodable {
            var id: String
            var snapshot: String
            var probe: String
            var settings: [String: String]
            var provenance: [String: String]
            var sample_count: Int
            var rows: [Row]
        }

        /// Figures by the names of their columns.
        struct Row: Decodable {
            var sample: Int
            var figures: [String: [Double]] = [:]

            private struct Key: CodingKey {
                var stringValue: String
                var intValue: Int? { nil }
                init?(stringValue: String) { self.stringValue = stringValue }
                init?(intValue: Int) { nil }
            }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: Key.self)
                sample = try container.decode(Int.self, forKey: Key(stringValue: "sample")!)
                for key in container.allKeys where key.stringValue != "sample" {
                    figures[key.stringValue] = try container.decode([Double].self, forKey: key)
                }
            }

            func outputs(_ columns: [EntropyColumn]) -> SampleOutputs {
                SampleOutputs(
                    sample: sample, values: columns.filter { $0 != .top1 }.map { (figures[$0.name] ?? []).map(Float.init) },
                    top1: (figures["top1"] ?? []).map { UInt32($0) })
            }
        }

        struct Contents: Decodable {
            var files: [File]
        }

        /// `sha256` is nil for an empty directory.
        struct File: Decodable, Equatable {
            var path: String
            var size: Int
            var sha256: String?
        }

        /// What `ckpt verify` exits with and says.
        struct Broken: Decodable {
            var exit: Int
            var words: [String]
            /// What can be read all the same.
            var readable: [String: Contents]?
        }
    }

    /// Calls `body` with the path of a copy that may be written to, and that of an empty directory beside it.
    private func withCopy(of name: String, _ body: (String, String) throws -> Void) throws {
        let temporary = try TemporaryDirectory()
        let path = "\(temporary.path)/store"
        try FileManager.default.copyItem(atPath: Self.directory.appending(path: name).path, toPath: path)
        try withExtendedLifetime(temporary) { try body(path, temporary.path) }
    }

    /// The files and empty directories below `root`, in the order of expected.json.
    private func contents(of root: String) throws -> [Expected.File] {
        var found: [Expected.File] = []
        for path in try FileManager.default.subpathsOfDirectory(atPath: root) {
            let full = "\(root)/\(path)"
            var isDirectory = false
            if let type = try FileManager.default.attributesOfItem(atPath: full)[.type] as? FileAttributeType {
                isDirectory = type == .typeDirectory
            }
            if !isDirectory {
                let data = try Data(contentsOf: URL(filePath: full))
                found.append(Expected.File(path: path, size: data.count, sha256: ContentID.hash(of: [UInt8](data)).description))
            } else if try FileManager.default.contentsOfDirectory(atPath: full).isEmpty {
                found.append(Expected.File(path: path, size: 0, sha256: nil))
            }
        }
        return found.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }
}

/// Any JSON, to be encoded again.
private enum AnyJSON: Codable {
    case object([String: AnyJSON]), array([AnyJSON]), string(String), bool(Bool), integer(Int), number(Double)

    init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let object = try? value.decode([String: AnyJSON].self) { self = .object(object) }
        else if let array = try? value.decode([AnyJSON].self) { self = .array(array) }
        else if let bool = try? value.decode(Bool.self) { self = .bool(bool) }
        else if let integer = try? value.decode(Int.self) { self = .integer(integer) }
        else if let number = try? value.decode(Double.self) { self = .number(number) }
        else { self = .string(try value.decode(String.self)) }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .object(let object): try container.encode(object)
        case .array(let array): try container.encode(array)
        case .string(let string): try container.encode(string)
        case .bool(let bool): try container.encode(bool)
        case .integer(let integer): try container.encode(integer)
        case .number(let number): try container.encode(number)
        }
    }
}
