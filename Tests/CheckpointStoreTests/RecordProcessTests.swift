import CheckpointStore
import Dispatch
import Foundation
import LMDB
import TestSupport
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Probes and entropy records among other writers, compactions and kills.
@Suite struct RecordProcessTests {
    /// `read_compatible` of the superblock.
    private func features(_ fixture: StoreFixture) throws -> UInt8 {
        let environment = try Environment.open(path: fixture.store.path + "/gen-1")
        let transaction = try environment.beginRead()
        guard let record = try transaction.get(try #require(try transaction.table("superblock")), Array("store".utf8)) else {
            throw CancellationError()
        }
        return record.withUnsafeBytes { $0[20] }
    }

    /// The first probe makes the tables and sets the feature; what is refused leaves the store as it was.
    @Test func tablesAreMadeByTheFirstWrite() throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        #expect(try features(fixture) == 0)
        let probe = try ProbeFixture.small()
        let key = EntropyKey(snapshot: snapshot, probe: probe.id)
        try fixture.expectRefusal(.noSuchRef) { try fixture.store.beginEntropyRecord(key, columns: [.nll], provenance: [:]) }
        try fixture.expectRefusal(.noSuchRef) { try fixture.store.removeProbe("p") }
        #expect(try fixture.store.probes().isEmpty)
        #expect(try features(fixture) == 0)
        try fixture.store.addProbe(probe, name: "p")
        #expect(try features(fixture) == 1)
        try fixture.store.removeProbe("p")
        #expect(try features(fixture) == 1)
        try fixture.expectWhole()
    }

    /// A store opened before another process made the tables.
    @Test func tablesOfAnotherProcess() throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        try fixture.ingest(SafetensorsFixture.model(seed: 2).bytes, run: "r", step: 2)
        let file = fixture.path("p.jsonl")
        try FileTree.write("{\"id\": \"a\", \"input_ids\": [1, 2, 3], \"completion_start\": 1}", to: file)
        #expect(try Command.run(["probe", "add", "p", file, "--store", fixture.store.path]).status == 0)
        #expect(try fixture.store.probes().map(\.name) == ["p"])
        #expect(try fixture.store.stats().probes == 1)

        // Writers and compactions, each as the first thing a store does with them.
        let other = try Store.open(fixture.store.path)
        let probe = try fixture.store.probe("p").probe
        try fixture.record(snapshot, probe)
        try other.remove("r@1")
        #expect(try other.entropyRecords().isEmpty)
        try other.compact()
        #expect(try fixture.store.probes().map(\.name) == ["p"])
        try fixture.expectWhole()
    }

    @Test func firstWritesOfManyThreads() throws {
        let fixture = try StoreFixture()
        let stores = try (0..<8).map { _ in try Store.open(fixture.store.path) }
        let probes = try (0..<8).map { try ProbeFixture.random(seed: UInt64($0), samples: 5) }
        let failures = DispatchQueue.concurrentMap(16) { index -> String? in
            do {
                if index % 2 == 0 {
                    try stores[index / 2].addProbe(probes[index / 2], name: "p\(index / 2)")
                } else {
                    for _ in 0..<50 { _ = try stores[index / 2].probes() }
                }
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(failures == [])
        #expect(try fixture.store.probes().map(\.samples) == [Int](repeating: 5, count: 8))
        try fixture.expectWhole()
    }

    /// Several writers of one record, whose samples overlap: each is kept once.
    @Test func oneRecordOfManyWriters() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 1, samples: 60)
        let key = EntropyKey(snapshot: try fixture.snapshot(), probe: try fixture.store.addProbe(probe, name: "p"))
        let outputs = ProbeFixture.outputs(probe, [.entropy, .top1], seed: 3)
        let failures = DispatchQueue.concurrentMap(6) { index -> String? in
            do {
                let store = try Store.open(fixture.store.path)
                try store.beginEntropyRecord(key, columns: [.entropy, .top1], provenance: ["thread": "\(index)"])
                for start in stride(from: index, to: 60, by: 4) { try store.appendOutputs(Array(outputs[start..<min(start + 5, 60)]), to: key) }
                return nil
            } catch {
                return "\(error)"
            }
        }
        #expect(failures == [])
        #expect(try fixture.store.outputs(of: key) == outputs)
        try fixture.expectWhole()
    }

    @Test func compactionKeepsThem() throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        let probe = try ProbeFixture.random(seed: 1, samples: 2_000)
        try fixture.store.addProbe(probe, name: "p")
        try fixture.store.addProbe(ProbeFixture.random(seed: 2, samples: 4_000), name: "q")
        let key = try fixture.record(snapshot, probe)
        let outputs = try fixture.store.outputs(of: key)
        try fixture.store.removeProbe("q")
        let result = try fixture.store.compact()
        #expect(result.afterBytes < result.beforeBytes)
        for store in [fixture.store, try Store.open(fixture.store.path)] {
            #expect(try store.probe("p").probe == probe)
            #expect(try store.outputs(of: key) == outputs)
        }
        try fixture.store.addProbe(ProbeFixture.small(), name: "small")
        try fixture.expectWhole()
    }

    /// Neither needs the store lock, nor does an ingest that holds it mind.
    @Test func theStoreLockIsNotNeeded() throws {
        let fixture = try StoreFixture(lockTimeout: 0.2)
        let snapshot = try fixture.snapshot()
        let lock = fixture.store.path + "/lock"
        let holder = try Command.start(["-c", "exec 9<>'\(lock)'; flock -x 9; sleep 60"], program: "/bin/sh")
        defer { holder.send(SIGKILL) }
        let probe = try ProbeFixture.small()
        try fixture.store.addProbe(probe, name: "p")
        try fixture.record(snapshot, probe)
        try fixture.store.removeProbe("p")
        try fixture.expectWhole()
    }

    @Test func stats() throws {
        let fixture = try StoreFixture()
        let probe = try ProbeFixture.random(seed: 1, samples: 100)
        try fixture.store.addProbe(probe, name: "p")
        try fixture.record(try fixture.snapshot(), probe)
        let stats = try fixture.store.stats()
        #expect(stats.probes == 1 && stats.entropyRecords == 1)
        #expect(stats.probeBytes == (try fixture.store.probes())[0].bytes && stats.probeBytes > 0)
        #expect(stats.entropyBytes == (try fixture.store.entropyRecords())[0].bytes && stats.entropyBytes > 0)
        let report = try Store.verify(fixture.store.path, depth: .quick)
        #expect(report.probes == 1 && report.entropyRecords == 1 && report.problems.isEmpty)
    }

    // MARK: Kills

    private static let appendTo = ProcessInfo.processInfo.environment["CKPT_APPEND_TO"]

    private static func killed() throws -> (Probe, [SampleOutputs]) {
        let probe = try ProbeFixture.random(seed: 8, samples: 3_000, tokens: 100...200)
        return (probe, ProbeFixture.outputs(probe, [.entropy, .nll], seed: 8))
    }

    /// The process that the next test kills.
    @Test(.enabled(if: appendTo != nil, "run by appendsKilledAtAnyMoment")) func appendsUntilKilled() throws {
        let store = try Store.open(try #require(RecordProcessTests.appendTo))
        let (probe, outputs) = try RecordProcessTests.killed()
        let snapshot = try store.snapshot("r").id
        let key = EntropyKey(snapshot: snapshot, probe: probe.id)
        var record = try store.beginEntropyRecord(key, columns: [.entropy, .nll], provenance: [:])
        for output in outputs where !record.contains(output.sample) {
            try store.appendOutputs([output], to: key)
            record = try #require(try store.entropyRecord(key))
            #expect(record.contains(output.sample))
        }
    }

    /// A process that computes outputs, killed again and again, gets to the end with every figure right.
    @Test(.enabled(if: appendTo == nil && FileManager.default.fileExists(atPath: "/proc/self/exe"), "needs /proc"))
    func appendsKilledAtAnyMoment() throws {
        let fixture = try StoreFixture()
        let (probe, outputs) = try RecordProcessTests.killed()
        let key = EntropyKey(snapshot: try fixture.snapshot(), probe: try fixture.store.addProbe(probe, name: "p"))
        let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().path
        let arguments = ["--testing-library", "swift-testing", "--filter", "appendsUntilKilled"]
        var random = SeededBytes(UInt64(getpid()))
        var done: [Int] = [0]
        for kill in 0..<(runsSlowTests ? 60 : 10) {
            let command = try Command.start(arguments, program: program, environment: ["CKPT_APPEND_TO": fixture.store.path])
            // Until it has begun, then a while.
            for _ in 0..<5_000 where try fixture.store.entropyRecord(key)?.samplesDone ?? 0 == done.last { usleep(1_000) }
            usleep(useconds_t.random(in: 0...20_000, using: &random))
            command.send(SIGKILL)
            command.wait()
            let report = try Store.verify(fixture.store.path, depth: .full)
            #expect(report.problems.map(\.description) == [] && report.pending == 0, "kill \(kill)")
            let record = try #require(try fixture.store.entropyRecord(key))
            let there = try fixture.store.outputs(of: key)
            #expect(there == outputs.filter { record.contains($0.sample) } && there.count >= done.last!, "kill \(kill)")
            done.append(there.count)
        }
        #expect(done[1] > 0 && done.last! > done[1], "\(done)")
        try fixture.store.appendOutputs(outputs, to: key)
        #expect(try fixture.store.entropyRecord(key)?.isComplete == true)
        #expect(try fixture.store.outputs(of: key) == outputs)
        try fixture.expectWhole()
    }

    /// Adding and removing probes with records, killed in whatever it is at.
    @Test func probesKilledAtAnyMoment() throws {
        let fixture = try StoreFixture()
        let snapshot = try fixture.snapshot()
        let file = fixture.path("p.jsonl")
        let probe = try ProbeFixture.random(seed: 5, samples: 20_000)
        let lines = probe.samples.map { sample in
            "{\"id\": \"\(sample.id)\", \"input_ids\": \(sample.tokens), \"completion_start\": \(sample.supervised[0].lowerBound)}"
        }
        try FileTree.write(lines.joined(separator: "\n"), to: file)
        let plain = try Probe(lines: ProbeFile.read(file)) { _ in throw CancellationError() }
        let outputs = ProbeFixture.outputs(plain, [.entropy, .nll], seed: 5)
        var random = SeededBytes(UInt64(getpid()))
        let key = EntropyKey(snapshot: snapshot, probe: plain.id)
        for kill in 0..<(runsSlowTests ? 60 : 10) {
            let isThere = try !fixture.store.probes().isEmpty
            if isThere, kill % 2 == 0 {
                try fixture.store.beginEntropyRecord(key, columns: [.entropy, .nll], provenance: [:])
                try fixture.store.appendOutputs(outputs, to: key)
            }
            let arguments = isThere ? ["probe", "rm", "p"] : ["probe", "add", "p", file]
            let command = try Command.start(arguments + ["--store", fixture.store.path])
            usleep(useconds_t.random(in: 0...(isThere ? 40_000 : 900_000), using: &random))
            command.send(SIGKILL)
            command.wait()
            let report = try Store.verify(fixture.store.path, depth: .full)
            #expect(report.problems.map(\.description) == [], "kill \(kill) of \(arguments)")
        }
        // Any writer finishes what was begun.
        try fixture.store.pin("r")
        #expect(try Store.verify(fixture.store.path, depth: .full).notes == [])
        try fixture.store.addProbe(plain, name: "p")
        try fixture.store.beginEntropyRecord(key, columns: [.entropy, .nll], provenance: [:])
        try fixture.store.appendOutputs(outputs, to: key)
        #expect(try fixture.store.outputs(of: key) == outputs)
        try fixture.expectWhole()
    }
}

extension DispatchQueue {
    /// What is not nil of `body` called with 0 to `count` - 1 side by side.
    fileprivate static func concurrentMap<T: Sendable>(_ count: Int, _ body: @Sendable (Int) -> T?) -> [T] {
        let results = Results<T>()
        concurrentPerform(iterations: count) { index in
            if let result = body(index) { results.add(result) }
        }
        return results.all
    }

    private final class Results<T: Sendable>: @unchecked Sendable {
        private let lock = NSLock()
        private var values: [T] = []
        var all: [T] { lock.withLock { values } }
        func add(_ value: T) { lock.withLock { values.append(value) } }
    }
}
