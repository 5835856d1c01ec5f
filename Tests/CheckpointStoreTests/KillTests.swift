import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Killed at any moment, a store opens, what was committed is whole, and the next ingest finishes.
@Suite struct KillTests {
    private static let kills = runsSlowTests ? 200 : 20

    /// A store that a series went into in one go, to compare with.
    private struct Reference {
        var originals: [String: [String: Data]] = [:]
        var stats: StoreStats
        var seconds: Double
    }

    private static func makeSeries(_ output: String, count: Int) throws {
        for step in 1...count { try FakeTrainer.write(step: step, seed: UInt64(step / 2), to: output, layers: 3, rows: 128, columns: 128) }
    }

    private static func reference(_ source: String, _ run: String) throws -> Reference {
        let fixture = try StoreFixture()
        let outcome = try Command.run(["ingest", source, "--store", fixture.store.path, "--run", run])
        try #require(outcome.status == 0, "\(outcome)")
        var reference = Reference(stats: try fixture.store.stats(), seconds: outcome.seconds)
        for entry in try fixture.store.history() {
            reference.originals["\(run)@\(entry.step)"] = try FileTree.contents(of: entry.source)
        }
        return reference
    }

    /// Checks a store that was just left by a killed process; returns what it holds.
    private static func checkKilled(
        _ fixture: StoreFixture, _ reported: String, _ reference: Reference, _ moment: String
    ) throws -> [HistoryEntry] {
        let report = try Store.verify(fixture.store.path, depth: .full)
        #expect(report.problems.map(\.description) == [], "\(moment)")
        #expect(report.pending <= 1, "\(moment)")
        let store = try Store.open(fixture.store.path)
        let history = try store.history()
        for entry in history {
            let ref = "\(entry.run)@\(entry.step)"
            #expect(FileTree.differences(try fixture.export(ref), try #require(reference.originals[ref])) == [], "\(moment)")
        }
        // What was reported as finished is there.
        for line in reported.split(separator: "\n") where line.hasSuffix("}") {
            let result = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
            guard let id = result?["id"] as? String else { continue }
            #expect(history.contains { "\($0.id)" == id }, "\(moment)")
        }
        return history
    }

    private static func checkFinished(_ fixture: StoreFixture, _ reference: Reference, _ moment: String) throws {
        let report = try Store.verify(fixture.store.path, depth: .full)
        #expect(report.problems.map(\.description) == [], "\(moment)")
        #expect(report.pending == 0, "\(moment)")
        let stats = try Store.open(fixture.store.path).stats()
        #expect(stats.snapshots == reference.stats.snapshots, "\(moment)")
        #expect(stats.blocks == reference.stats.blocks && stats.tensors == reference.stats.tensors, "\(moment)")
        #expect(stats.packedBytes == reference.stats.packedBytes, "\(moment)")
        let images = try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images")
        #expect(images.count == 1, "\(moment)")
    }

    @Test func seriesKilledAtAnyMoment() throws {
        let directory = try TemporaryDirectory()
        let source = directory.path + "/out"
        try KillTests.makeSeries(source, count: 4)
        let reference = try KillTests.reference(source, "out")
        var random = SeededBytes(UInt64(getpid()))
        for kill in 0..<KillTests.kills {
            let fixture = try StoreFixture()
            let seconds = Double.random(in: 0...reference.seconds, using: &random)
            let command = try Command.start(["ingest", source, "--store", fixture.store.path, "--json"])
            usleep(useconds_t(seconds * 1e6))
            command.send(SIGKILL)
            let outcome = command.wait()
            let moment = "kill \(kill) after \(seconds) s"
            _ = try KillTests.checkKilled(fixture, outcome.output, reference, moment)
            let next = try Command.run(["ingest", source, "--store", fixture.store.path])
            #expect(next.status == 0, "\(moment): \(next)")
            try KillTests.checkFinished(fixture, reference, moment)
        }
    }

    /// Kills of every writer in turn over one store that lives on.
    @Test func oneStoreKilledOverAndOver() throws {
        let fixture = try StoreFixture()
        let source = fixture.path("out")
        try KillTests.makeSeries(source, count: 3)
        let reference = try KillTests.reference(source, "out")
        let path = fixture.store.path
        var random = SeededBytes(UInt64(getpid()) + 1)
        for kill in 0..<(KillTests.kills) {
            let commands = [
                ["ingest", source, "--json", "--rehash"], ["rm", "out@1"], ["rm", "out@2"], ["pin", "out@1"], ["unpin", "out@1"],
                ["path", "out@2"], ["tag", "t", "out@1"], ["tag", "-d", "t"], ["ingest", source + "/checkpoint-1", "--pin"],
                ["rm", "out"], ["ingest", source, "--json"], ["compact"],
            ]
            let arguments = commands.randomElement(using: &random)!
            let command = try Command.start(arguments + ["--store", path])
            usleep(useconds_t.random(in: 0...200_000, using: &random))
            command.send(SIGKILL)
            command.wait()
            let moment = "kill \(kill) of \(arguments.prefix(2))"
            let report = try Store.verify(path, depth: .full)
            #expect(report.problems.map(\.description) == [], "\(moment)")
            let store = try Store.open(path)
            for entry in try store.history() {
                let ref = "\(entry.run)@\(entry.step)"
                let export = try fixture.export(ref)
                #expect(FileTree.differences(export, try #require(reference.originals[ref])) == [], "\(moment)")
            }
        }
        let store = try Store.open(path)
        for tag in try store.tags() { try store.removeTag(tag.name) }
        for entry in try store.history() { try store.unpin("\(entry.run)@\(entry.step)") }
        for entry in try store.history() { try store.remove("\(entry.run)@\(entry.step)") }
        if try store.history().isEmpty { try fixture.ingest(SafetensorsFixture.model(seed: 50).bytes, run: "end", step: 1) }
        try store.remove("end")
        let stats = try store.stats()
        #expect(stats.blocks == 0 && stats.tensors == 0 && stats.snapshots == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: path + "/images") == [])
        try fixture.expectWhole()
    }

    /// Killed at any moment, a compaction has happened or has not, and the next one finishes.
    @Test func compactionKilledAtAnyMoment() throws {
        let fixture = try StoreFixture()
        var random = SeededBytes(UInt64(getpid()) + 3)
        let model = SafetensorsFixture([.init("t", .u8, [16 << 20], random.bytes(16 << 20))])
        try fixture.ingest(model.bytes, run: "r", step: 1)
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 2) { $0.tags = ["t"] }
        let export = try fixture.export("r@1")
        let path = fixture.store.path
        var generation = 1
        var seconds = try Command.run(["compact", "--store", path]).seconds
        for kill in 0..<(runsSlowTests ? 60 : 12) {
            let command = try Command.start(["compact", "--store", path])
            usleep(useconds_t(Double.random(in: 0...seconds, using: &random) * 1e6))
            command.send(SIGKILL)
            command.wait()
            let report = try Store.verify(path, depth: .full)
            #expect(report.problems.map(\.description) == [] && report.snapshots == 2, "kill \(kill)")
            #expect(FileTree.differences(try fixture.export("r@1"), export) == [], "kill \(kill)")
            #expect(try fixture.store.tags().map(\.name) == ["t"])
            if kill % 3 == 0 {
                let next = try Command.run(["compact", "--store", path, "--json"])
                #expect(next.status == 0, "\(next)")
                let reached = try #require((try next.json() as? [String: Any])?["generation"] as? Int)
                #expect(reached > generation)
                (generation, seconds) = (reached, next.seconds)
            }
            // Any writer removes what was left.
            try fixture.store.pin("r@2")
            let generations = try FileManager.default.contentsOfDirectory(atPath: path).filter { $0.hasPrefix("gen-") }
            #expect(generations.count == 1, "kill \(kill): \(generations)")
        }
    }

    @Test func overlappingIngestsAnyOfThemKilled() throws {
        let directory = try TemporaryDirectory()
        let source = directory.path + "/out"
        try KillTests.makeSeries(source, count: 3)
        let first = try KillTests.reference(source, "a")
        let second = try KillTests.reference(source, "b")
        var both = first
        both.originals.merge(second.originals) { $1 }
        var random = SeededBytes(UInt64(getpid()) + 2)
        for kill in 0..<(runsSlowTests ? 60 : 8) {
            let fixture = try StoreFixture()
            let store = ["--store", fixture.store.path, "--json"]
            let a = try Command.start(["ingest", source, "--run", "a"] + store)
            let b = try Command.start(["ingest", source, "--run", "b"] + store)
            usleep(useconds_t(Double.random(in: 0...(2 * first.seconds), using: &random) * 1e6))
            let victim = kill % 2 == 0 ? a : b
            victim.send(SIGKILL)
            let outcomes = [a.wait(), b.wait()]
            let moment = "kill \(kill)"
            #expect(outcomes[1 - kill % 2].status == 0, "\(moment): \(outcomes)")
            let history = try KillTests.checkKilled(fixture, outcomes[0].output + outcomes[1].output, both, moment)
            #expect(history.filter { $0.run == (kill % 2 == 0 ? "b" : "a") }.count == 3, "\(moment)")
            for run in ["a", "b"] {
                let next = try Command.run(["ingest", source, "--run", run] + store)
                #expect(next.status == 0, "\(moment): \(next)")
            }
            let report = try Store.verify(fixture.store.path, depth: .full)
            #expect(report.problems.isEmpty && report.pending == 0, "\(moment): \(report.problems)")
            let stats = try Store.open(fixture.store.path).stats()
            #expect(stats.blocks == first.stats.blocks && stats.snapshots == 6, "\(moment)")
        }
    }

    /// One checkpoint of several staged commits.
    @Test(.enabled(if: runsSlowTests, "CKPT_SLOW_TESTS is not set")) func largeCheckpointKilledBetweenItsCommits() throws {
        let directory = try TemporaryDirectory()
        let source = directory.path + "/big.safetensors"
        var random = SeededBytes(77)
        let (one, two) = (130 << 20, 120 << 20)
        let model = SafetensorsFixture([
            .init("one", .u8, [UInt64(one)], random.bytes(one)), .init("none", .u8, [0, 1], []),
            .init("two", .u8, [2, UInt64(two / 2)], random.bytes(two)),
        ])
        try FileTree.write(model.bytes, to: source)
        let arguments = ["ingest", source, "--run", "big", "--no-image"]
        let whole = try StoreFixture()
        let seconds = try Command.run(arguments + ["--store", whole.store.path]).seconds
        let blocks = try whole.store.stats().blocks
        var pendingSeen = 0
        for kill in 0..<24 {
            let fixture = try StoreFixture()
            let command = try Command.start(arguments + ["--store", fixture.store.path])
            usleep(useconds_t(seconds * Double(kill + 1) / 25 * 1e6))
            command.send(SIGKILL)
            command.wait()
            let report = try Store.verify(fixture.store.path, depth: .full)
            #expect(report.problems.map(\.description) == [], "kill \(kill)")
            pendingSeen += report.pending
            if kill % 2 == 0 {
                // Any writer releases what was staged.
                try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
                try fixture.expectWhole()
                if try fixture.store.history().count == 1 { #expect(try fixture.store.stats().blocks < 20, "kill \(kill)") }
            }
            let next = try Command.run(arguments + ["--store", fixture.store.path])
            #expect(next.status == 0, "\(next)")
            try fixture.expectWhole()
            if kill % 2 == 1 { #expect(try fixture.store.stats().blocks == blocks) }
        }
        #expect(pendingSeen > 0, "some kill fell between two commits")
    }
}
