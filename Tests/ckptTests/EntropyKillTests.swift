import CheckpointStore
import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Stopped in the middle, `ckpt entropy` and `ckpt diff --probe` go on where they were: nothing is lost, nothing computed twice.
@Suite(.serialized) struct EntropyKillTests {
    private static let tolerance: Float = 1e-6

    enum Stop: CaseIterable { case killed, interrupted }

    /// A store, a copy of it in which `arguments` ran to their end, and the tokens that took. `prepare` runs in both first.
    private func references(_ arguments: [String], prepare: [String]?) throws -> (OutputPlayground, reference: String, tokens: Int) {
        let playground = try OutputPlayground(samples: 240, tokens: 200...300, vocabulary: 256, width: 32)
        if let prepare { _ = try finish(prepare, playground.store) }
        let reference = try copy(playground, "reference")
        return (playground, reference, try finish(arguments, reference))
    }

    /// Results are written every two seconds: held for so long, a run writes at its next batch, however fast the machine is.
    private static let microsecondsHeld: useconds_t = 2_100_000

    /// A copy of the store in which `arguments` were stopped once the record that is theirs had samples, and that record. On a machine that is busy
    /// enough they come to their end before anybody looks at them: then once more.
    private func stopped(
        _ arguments: [String], _ playground: OutputPlayground, _ how: Stop, isOurs: (EntropyRecord) -> Bool
    ) throws -> (store: String, EntropyRecord) {
        for attempt in 1...5 {
            let store = try copy(playground, "\(how)-\(attempt)")
            if let found = try stop(arguments, store, how, isOurs: isOurs) { return (store, found) }
        }
        throw Unstoppable()
    }

    private struct Unstoppable: Error {}

    /// Starts `arguments` and stops them once the record that is theirs has samples; returns it, nil when they came to their end.
    private func stop(
        _ arguments: [String], _ path: String, _ how: Stop, isOurs: (EntropyRecord) -> Bool
    ) throws -> EntropyRecord? {
        let command = try Command.start(arguments + ["--store", path])
        let store = try Store.open(path)
        func record() throws -> EntropyRecord? { try store.entropyRecords().first(where: isOurs) }
        while command.isRunning, !command.errors.contains("ckpt: running") { usleep(200) }
        // The first batch is under way.
        usleep(2_000)
        command.send(SIGSTOP)
        usleep(EntropyKillTests.microsecondsHeld)
        // In short pieces, looked at while it stands still: on a busy machine it could come to its end between two looks.
        repeat {
            command.send(SIGCONT)
            usleep(2_000)
            command.send(SIGSTOP)
        } while try command.isRunning && record()?.samplesDone ?? 0 == 0
        command.send(how == .killed ? SIGKILL : SIGINT)
        command.send(SIGCONT)
        let outcome = command.wait()
        if outcome.status == 0 { return nil }
        #expect(how == .killed ? outcome.signal == SIGKILL : outcome.status == 130, "\(outcome)")
        if how == .interrupted { #expect(outcome.errors.contains("what was computed is kept") && outcome.output == "") }
        #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
        let found = try #require(try record())
        #expect(found.samplesDone > 0 && !found.isComplete, "\(found.samplesDone) of \(found.samplesTotal)")
        return found
    }

    /// Runs `arguments` to their end; returns the tokens that it said it had to compute.
    private func finish(_ arguments: [String], _ store: String) throws -> Int {
        let outcome = try Command.run(arguments + ["--store", store], environment: ["CKPT_PROGRESS_FPS": "1000"], timeout: 600)
        try #require(outcome.status == 0, "\(outcome.errors.suffix(300))")
        let total = outcome.errors.firstMatch(of: /of (\d+) tokens/)
        return total.flatMap { Int($0.1) } ?? 0
    }

    /// The records of both stores hold the same, and each sample once.
    private func expectEqual(_ path: String, _ reference: String) throws {
        let (store, reference) = (try Store.open(path), try Store.open(reference))
        let records = try reference.entropyRecords()
        #expect(try store.entropyRecords().count == records.count)
        for record in records {
            let (ours, theirs) = (try store.outputs(of: record.key), try reference.outputs(of: record.key))
            #expect(try store.entropyRecord(record.key)?.isComplete == true && ours.count == theirs.count)
            for (a, b) in zip(ours, theirs) {
                #expect(a.sample == b.sample && a.count == b.count)
                for (x, y) in zip(a.values.joined(), b.values.joined()) where abs(x - y) > EntropyKillTests.tolerance * max(1, abs(y)) {
                    Issue.record("sample \(a.sample): \(x) and \(y)")
                }
            }
        }
        #expect(try Store.verify(path, depth: .full).problems.map(\.description) == [])
    }

    private func copy(_ playground: OutputPlayground, _ name: String) throws -> String {
        let path = playground.directory.path + "/" + name
        try FileManager.default.copyItem(atPath: playground.store, toPath: path)
        // Copied images are not trusted: without one, blocks would be decoded for each batch.
        for ref in ["m@1", "m@2"] { #expect(try Command.run(["path", ref, "--store", path]).status == 0) }
        return path
    }

    @Test func entropy() throws {
        let arguments = ["entropy", "m@1", "--probe", "p", "--threads", "1"]
        let (playground, reference, tokens) = try references(arguments, prepare: nil)
        for how in Stop.allCases {
            let (store, before) = try stopped(arguments, playground, how) { $0.key.settings["weak"] == nil }
            let kept = try Store.open(store).outputs(of: before.key)
            #expect(try finish(arguments, store) == tokens - before.tokens)
            try expectEqual(store, reference)
            let now = try Store.open(store).outputs(of: before.key)
            #expect(kept == now.filter { before.contains($0.sample) })
            // Once more there is nothing to do.
            #expect(try finish(arguments, store) == 0)
        }
    }

    @Test func pairs() throws {
        let arguments = ["diff", "m@1", "m@2", "--probe", "p", "--threads", "1", "--json"]
        // One model's own record is there: it is neither computed again nor written twice.
        let own = ["entropy", "m@1", "--probe", "p", "--threads", "2"]
        let (playground, reference, tokens) = try references(arguments, prepare: own)
        let weak = try #require(try playground.records().first)
        for how in Stop.allCases {
            let (store, before) = try stopped(arguments, playground, how) { $0.key.settings["weak"] != nil }
            #expect(try finish(arguments, store) == tokens - before.tokens)
            try expectEqual(store, reference)
            #expect(try Store.open(store).entropyRecord(weak.key) == weak)
            #expect(try finish(arguments, store) == 0)
        }
    }
}
