import CheckpointStore
import Foundation
import TestSupport
import Testing

@Suite struct ProbeTests {
    @Test func roundTrip() throws {
        let fixture = try StoreFixture()
        #expect(try fixture.store.probes().isEmpty)
        let small = try ProbeFixture.small()
        // Several chunks.
        let large = try ProbeFixture.random(seed: 2, samples: 9_000)
        #expect(try fixture.store.addProbe(small, name: "small") == small.id)
        try fixture.store.addProbe(large, name: "large")
        for name in ["small", String("\(small.id)".prefix(8)), "\(small.id)"] {
            let found = try fixture.store.probe(name)
            #expect(found.id == small.id && found.name == "small" && found.probe == small)
        }
        #expect(try fixture.store.probe("large").probe == large)
        let list = try fixture.store.probes()
        #expect(list.map(\.name) == ["large", "small"])
        #expect(list.map(\.samples) == [9_000, 2] && list[1].tokens == 10 && list[1].supervisedTokens == 5 && list[1].records == 0)
        #expect(list.allSatisfy { $0.bytes > 0 })
        // Another process sees them.
        #expect(try Store.open(fixture.store.path).probe("small").probe == small)
        try fixture.expectWhole()
    }

    /// The id is part of the format: a change here would orphan every record that was ever made.
    @Test func idIsPinned() throws {
        #expect(try ProbeFixture.small().id.description == "13e5e4219ef8bb38263a51c217ec67d211dc24fffa28b802a46938d1278aa631")
    }

    @Test func sameNameAndContentChangesNothing() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.small()
        try fixture.store.addProbe(probe, name: "p")
        let created = try fixture.store.probes()[0].created
        #expect(try fixture.store.addProbe(probe, name: "p") == probe.id)
        #expect(try fixture.store.probes().map(\.created) == [created])
    }

    @Test func sameNameOtherContentIsRefused() throws {
        let fixture = try StoreFixture()
        let (one, two) = (try ProbeFixture.small(), try ProbeFixture.random(seed: 1, samples: 3))
        try fixture.store.addProbe(one, name: "p")
        try fixture.expectRefusal(.conflict, saying: "\(one.id)", "\(two.id)") { try fixture.store.addProbe(two, name: "p") }
        #expect(try fixture.store.probe("p").id == one.id)
    }

    /// Two names for one content; it stays until the last one goes.
    @Test func twoNames() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.small()
        try fixture.store.addProbe(probe, name: "p")
        try fixture.store.addProbe(probe, name: "q")
        let snapshot = try fixture.snapshot()
        let key = try fixture.record(snapshot, probe)
        #expect(try fixture.store.probe("q").name == "q")
        try fixture.store.removeProbe("p")
        #expect(try fixture.store.probes().map(\.name) == ["q"])
        #expect(try fixture.store.entropyRecord(key)?.isComplete == true)
        try fixture.expectWhole()
        try fixture.store.removeProbe("q")
        #expect(try fixture.store.probes().isEmpty)
        #expect(try fixture.store.entropyRecord(key) == nil)
        try fixture.expectWhole()
        // And back again.
        try fixture.store.addProbe(probe, name: "p")
        try fixture.record(snapshot, probe)
        try fixture.expectWhole()
    }

    @Test func unknownNames() throws {
        let fixture = try StoreFixture()
        for name in ["p", "", "abcdef", String(repeating: "p", count: 600)] {
            try fixture.expectRefusal(.noSuchRef, saying: "the store has none") { _ = try fixture.store.probe(name) }
            try fixture.expectRefusal(.noSuchRef) { try fixture.store.removeProbe(name) }
        }
        try fixture.store.addProbe(ProbeFixture.small(), name: "here")
        try fixture.expectRefusal(.noSuchRef, saying: "here") { _ = try fixture.store.probe("p") }
        for name in ["", "-p", "a b", "a@b", "a/b"] {
            try fixture.expectRefusal(.badInput, saying: "probe name") { try fixture.store.addProbe(ProbeFixture.small(), name: name) }
        }
    }

    @Test(arguments: [
        [ProbeSample(id: "", tokens: [1, 2], supervised: [1..<2])],
        [ProbeSample(id: "x", tokens: [1, 2], supervised: [])],
        [ProbeSample(id: "x", tokens: [], supervised: [])],
        [ProbeSample(id: "x", tokens: [1, 2], supervised: [0..<2])],
        [ProbeSample(id: "x", tokens: [1, 2], supervised: [1..<3])],
        [ProbeSample(id: "x", tokens: [1, 2], supervised: [1..<1])],
        [ProbeSample(id: "x", tokens: [1, -2], supervised: [1..<2])],
        [ProbeSample(id: "x", tokens: [1, 2, 3, 4], supervised: [1..<3, 2..<4])],
        [ProbeSample(id: "x", tokens: [1, 2, 3, 4], supervised: [3..<4, 1..<2])],
        [ProbeSample(id: "x", tokens: [1, 2], supervised: [1..<2]), ProbeSample(id: "x", tokens: [1, 2], supervised: [1..<2])],
    ] as [[ProbeSample]]) func refusedSamples(_ samples: [ProbeSample]) throws {
        let error = try #require(throws: StoreError.self) { try Probe(samples: samples) }
        #expect(error.code == .badInput && error.description.contains("sample"))
        // Changed after it was made, too.
        let fixture = try StoreFixture()
        var probe = try ProbeFixture.small()
        probe.samples = samples
        try fixture.expectRefusal(.badInput) { try fixture.store.addProbe(probe, name: "p") }
    }

    @Test func refusedProbes() throws {
        #expect { try Probe(samples: []) } throws: { ($0 as? StoreError)?.code == .badInput }
        let sample = ProbeSample(id: "x", tokens: [1, 2], supervised: [1..<2])
        #expect { try Probe(samples: [sample], pieces: [3: [1]]) } throws: { ($0 as? StoreError)?.description.contains("token 3") == true }
    }
}
