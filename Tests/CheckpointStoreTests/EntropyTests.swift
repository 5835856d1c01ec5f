import CheckpointStore
import Foundation
import TestSupport
import Testing

@Suite struct EntropyTests {
    @Test(arguments: [
        [.entropy], [.top1], [.entropy, .nll], [.entropy, .nll, .top1], Set(EntropyColumn.allCases),
    ] as [Set<EntropyColumn>]) func roundTrip(_ columns: Set<EntropyColumn>) throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        // Chunks that end inside samples, and samples longer than chunks.
        for (samples, tokens) in [(2_000, 2...60), (3, 80_000...90_000)] {
            let probe = try ProbeFixture.random(seed: 3, samples: samples, tokens: tokens)
            try fixture.store.addProbe(probe, name: "p\(samples)")
            let key = try fixture.record(snapshot, probe, columns: columns)
            let record = try #require(try fixture.store.entropyRecord(key))
            #expect(record.isComplete && record.samplesTotal == samples && record.columns == columns.sorted())
            #expect(record.tokens == probe.samples.reduce(0) { $0 + $1.supervisedCount })
            #expect(record.provenance == ["program": "test"])
            #expect(try fixture.store.outputs(of: key) == ProbeFixture.outputs(probe, columns, seed: 5))
            #expect(try fixture.store.probe("p\(samples)").probe == probe)
        }
        #expect(try fixture.store.probes().map(\.records) == [1, 1])
        try fixture.expectWhole()
    }

    @Test func keyIsPinned() throws {
        let key = EntropyKey(
            snapshot: ContentID.hash(of: [1]), probe: ContentID.hash(of: [2]), settings: ["max_length": "4096", "lambda": "0.5"])
        #expect(key.id.description == "80e2607a3e000dcf04a7ef790bd12265160ae9eca2d1def3c2beb4ffc2938b95")
        #expect(EntropyKey(snapshot: key.snapshot, probe: key.probe).id != key.id)
    }

    /// A run that stopped goes on, in any order, in any number of calls.
    @Test func resume() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 4, samples: 100)
        let key = EntropyKey(snapshot: try fixture.snapshot(), probe: try fixture.store.addProbe(probe, name: "p"))
        let columns: Set<EntropyColumn> = [.entropy, .top1]
        var outputs = ProbeFixture.outputs(probe, columns, seed: 6)
        var random = SeededBytes(6)
        outputs.shuffle(using: &random)
        let begun = try fixture.store.beginEntropyRecord(key, columns: columns, provenance: ["device": "one"])
        #expect(begun.samplesDone == 0 && !begun.isComplete)
        #expect(try fixture.store.outputs(of: key).isEmpty)
        try fixture.store.appendOutputs(Array(outputs[..<30]), to: key)
        let again = try fixture.store.beginEntropyRecord(key, columns: columns, provenance: ["device": "two"])
        #expect(again.samplesDone == 30 && again.provenance == ["device": "one"] && again.created == begun.created)
        #expect((0..<100).filter { again.contains($0) } == outputs[..<30].map(\.sample).sorted())
        try fixture.expectWhole()
        // Some that are there, some that are not.
        try fixture.store.appendOutputs(Array(outputs[10..<31]), to: key)
        try fixture.store.appendOutputs([], to: key)
        for output in outputs[31...] { try fixture.store.appendOutputs([output], to: key) }
        #expect(try fixture.store.entropyRecord(key)?.isComplete == true)
        #expect(try fixture.store.outputs(of: key) == outputs.sorted { $0.sample < $1.sample })
        try fixture.expectWhole()
    }

    @Test func otherFiguresAreRefused() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 4, samples: 4)
        try fixture.store.addProbe(probe, name: "p")
        let key = try fixture.record(try fixture.snapshot(), probe, columns: [.entropy, .top1])
        var outputs = ProbeFixture.outputs(probe, [.entropy, .top1], seed: 5)
        try fixture.store.appendOutputs(outputs, to: key)
        outputs[2].values[0][0].negate()
        try fixture.expectRefusal(.conflict, saying: "\"s2\"") { try fixture.store.appendOutputs(outputs, to: key) }
        outputs = ProbeFixture.outputs(probe, [.entropy, .top1], seed: 5)
        outputs[3].top1[0] += 1
        try fixture.expectRefusal(.conflict, saying: "\"s3\"") { try fixture.store.appendOutputs(outputs, to: key) }
        try fixture.expectRefusal(.conflict, saying: "columns") {
            try fixture.store.beginEntropyRecord(key, columns: [.entropy], provenance: [:])
        }
        #expect(try fixture.store.outputs(of: key) == ProbeFixture.outputs(probe, [.entropy, .top1], seed: 5))
    }

    @Test func refusedFigures() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 4, samples: 4)
        let key = EntropyKey(snapshot: try fixture.snapshot(), probe: try fixture.store.addProbe(probe, name: "p"))
        try fixture.store.beginEntropyRecord(key, columns: [.entropy, .nll, .top1], provenance: [:])
        let good = ProbeFixture.outputs(probe, [.entropy, .nll, .top1], seed: 5)
        let changes: [(String, (inout [SampleOutputs]) -> Void)] = [
            ("\"s1\"", { $0[1].values[0][0] = .nan }), ("\"s3\"", { $0[3].values[1][0] = -.infinity }),
            ("\"s2\"", { $0[2].values[0].append(1) }), ("\"s2\"", { $0[2].top1.removeLast() }),
            ("\"s0\"", { $0[0].values.removeLast() }), ("\"s0\"", { $0[0].values.append($0[0].values[0]) }),
            ("given twice", { $0.append($0[0]) }), ("sample 4", { $0[3].sample = 4 }), ("sample -1", { $0[3].sample = -1 }),
            ("are supervised", { $0[1] = SampleOutputs(sample: 1, values: [[], []]) }),
        ]
        for (words, change) in changes {
            var outputs = good
            change(&outputs)
            try fixture.expectRefusal(.badInput, saying: words) { try fixture.store.appendOutputs(outputs, to: key) }
        }
        #expect(try fixture.store.entropyRecord(key)?.samplesDone == 0)
    }

    /// With `max_length`, samples may have fewer figures, down to none; never more.
    @Test func cutSamples() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 4, samples: 50)
        let key = EntropyKey(
            snapshot: try fixture.snapshot(), probe: try fixture.store.addProbe(probe, name: "p"), settings: ["max_length": "9"])
        try fixture.store.beginEntropyRecord(key, columns: [.entropy], provenance: [:])
        var outputs = ProbeFixture.outputs(probe, [.entropy], seed: 7, atMost: 5)
        outputs[20].values = [[]]
        try fixture.store.appendOutputs(outputs, to: key)
        #expect(try fixture.store.outputs(of: key) == outputs)
        try fixture.expectWhole()
    }

    @Test func whatIsNotThere() throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        let probe = try ProbeFixture.small()
        let (nothing, id) = (ContentID.hash(of: []), probe.id)
        let key = EntropyKey(snapshot: snapshot, probe: id)
        let refuse = { (code: StoreError.Code, words: String, key: EntropyKey) in
            _ = try fixture.expectRefusal(code, saying: words) {
                try fixture.store.beginEntropyRecord(key, columns: [.entropy], provenance: [:])
            }
        }
        try refuse(.noSuchRef, "no such probe", key)
        try fixture.store.addProbe(probe, name: "p")
        try refuse(.noSuchRef, "no such snapshot", EntropyKey(snapshot: nothing, probe: id))
        try refuse(.noSuchRef, "no such snapshot", EntropyKey(snapshot: snapshot, probe: id, settings: ["weak": "\(nothing)"]))
        try refuse(.badInput, "weak", EntropyKey(snapshot: snapshot, probe: id, settings: ["weak": "r@1"]))
        try refuse(.badInput, "is no name", EntropyKey(snapshot: snapshot, probe: id, settings: ["a b": ""]))
        try refuse(.badInput, "64 KiB", EntropyKey(snapshot: snapshot, probe: id, settings: ["a": String(repeating: "x", count: 70_000)]))
        try fixture.expectRefusal(.badInput, saying: "columns") {
            try fixture.store.beginEntropyRecord(key, columns: [], provenance: [:])
        }
        #expect(try fixture.store.entropyRecord(key) == nil)
        for body: () throws -> Void in [
            { _ = try fixture.store.outputs(of: key) }, { try fixture.store.removeEntropyRecord(key) },
            { try fixture.store.appendOutputs([], to: key) },
        ] {
            try fixture.expectRefusal(.noSuchRef, saying: "no such entropy record") { try body() }
        }
    }

    @Test func listed() throws {
        let fixture = try StoreFixture()
        let (one, two) = (try fixture.snapshot(), try fixture.snapshot(seed: 2, step: 2))
        let (p, q) = (try ProbeFixture.small(), try ProbeFixture.random(seed: 1, samples: 3))
        try fixture.store.addProbe(p, name: "p")
        try fixture.store.addProbe(q, name: "q")
        let keys = [
            try fixture.record(one, p), try fixture.record(two, p), try fixture.record(two, p, settings: ["weak": "\(one)"]),
            try fixture.record(one, q),
        ]
        #expect(try fixture.store.entropyRecords().map(\.key) == keys)
        #expect(try fixture.store.entropyRecords(snapshot: two).map(\.key) == [keys[1], keys[2]])
        #expect(try fixture.store.entropyRecords(probe: q.id).map(\.key) == [keys[3]])
        #expect(try fixture.store.entropyRecords(snapshot: two, probe: q.id).isEmpty)
        #expect(try fixture.store.probes().map(\.records) == [3, 1])
        try fixture.store.removeEntropyRecord(keys[1])
        #expect(try fixture.store.entropyRecords(snapshot: two).map(\.key) == [keys[2]])
        try fixture.expectWhole()
    }

    /// With a snapshot go its records, and those it was the weak of.
    @Test func removalOfSnapshots() throws {
        let fixture = try StoreFixture()
        let (one, two, three) = (try fixture.snapshot(), try fixture.snapshot(seed: 2, step: 2), try fixture.snapshot(seed: 3, step: 3))
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "other", step: 1)
        let probe = try ProbeFixture.random(seed: 1, samples: 20)
        try fixture.store.addProbe(probe, name: "p")
        let keys = [
            try fixture.record(one, probe), try fixture.record(two, probe),
            try fixture.record(three, probe, settings: ["weak": "\(one)"]),
        ]
        // It stands elsewhere too.
        try fixture.store.remove("r@1")
        #expect(try fixture.store.entropyRecords().count == 3)
        try fixture.store.remove("other")
        #expect(try fixture.store.entropyRecords().map(\.key) == [keys[1]])
        try fixture.expectWhole()
        // Replaced is removed.
        try fixture.ingest(SafetensorsFixture.model(seed: 9).bytes, run: "r", step: 2) { $0.replaces = true }
        #expect(try fixture.store.entropyRecords().isEmpty)
        #expect(try fixture.store.probes().count == 1)
        try fixture.expectWhole()
    }
}
