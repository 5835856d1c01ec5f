import CheckpointStore
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

/// Random histories of a store against a plain model of what must be in it. `CKPT_SEED` repeats one.
@Suite struct ModelTests {
    private static let steps = runsSlowTests ? 10_000 : 500

    /// What must be there.
    private struct Model {
        struct Entry: Equatable {
            var step: UInt64
            var bytes: [UInt8]
        }

        var runs: [String: [Entry]] = [:]
        /// By the bytes of what they name.
        var tags: [String: [UInt8]] = [:]
        var pins: Set<[UInt8]> = []

        var entries: [(run: String, entry: Entry)] { runs.sorted { $0.key < $1.key }.flatMap { run, entries in entries.map { (run, $0) } } }

        /// The steps that a policy of the newest and of every so many drops.
        func dropped(last: Int, every: UInt64) -> [(run: String, entry: Entry)] {
            runs.flatMap { run, entries in
                entries.dropLast(last).filter { entry in
                    entry.step % every != 0 && !pins.contains(entry.bytes) && !tags.values.contains(entry.bytes)
                }.map { (run, $0) }
            }
        }

        mutating func remove(_ run: String, _ step: UInt64) {
            runs[run]?.removeAll { $0.step == step }
            if runs[run]?.isEmpty == true { runs[run] = nil }
        }
    }

    private final class History {
        let fixture: StoreFixture
        var model = Model()
        var random: SeededBytes
        /// A training for each run: how it is now.
        var trainings: [String: FineTune] = [:]
        var nextStep: UInt64 = 1
        private(set) var kills = 0

        init(seed: UInt64) throws {
            fixture = try StoreFixture(depthLimit: [1, 3, 5][Int(seed % 3)])
            random = SeededBytes(seed)
        }

        var store: Store { fixture.store }

        func pick<T>(_ values: [T]) -> T? { values.randomElement(using: &random) }

        /// The next checkpoint of a run, written to a file.
        func checkpoint() throws -> (run: String, step: UInt64, bytes: [UInt8], path: String) {
            let run = pick(["a", "b", "c"])!
            if trainings[run] == nil {
                // Often grown from another run.
                trainings[run] = pick(Array(trainings.sorted { $0.key < $1.key }.map(\.value))) ?? FineTune(tensors: 2)
            }
            // Now and then the same bytes once more.
            let bytes = Int.random(in: 0..<8, using: &random) == 0 ? model.runs[run]?.last?.bytes ?? trainings[run]!.next() : trainings[run]!.next()
            let path = fixture.path("source.safetensors")
            try FileTree.write(bytes, to: path)
            defer { nextStep += 1 }
            return (run, nextStep, bytes, path)
        }

        func arguments(_ checkpoint: (run: String, step: UInt64, bytes: [UInt8], path: String)) -> [String] {
            ["ingest", checkpoint.path, "--run", checkpoint.run, "--step", "\(checkpoint.step)"] + (Bool.random(using: &random) ? ["--no-image"] : [])
        }

        /// One step of the history; what it was.
        func step() throws -> String {
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<7:
                let checkpoint = try checkpoint()
                var options = IngestOptions()
                (options.run, options.step, options.makesImage) = (checkpoint.run, checkpoint.step, Bool.random(using: &random))
                try store.ingest(checkpoint.path, options: options)
                model.runs[checkpoint.run, default: []].append(.init(step: checkpoint.step, bytes: checkpoint.bytes))
                return "ingest \(checkpoint.run)@\(checkpoint.step)"
            case 7:
                guard let (run, entry) = pick(model.entries) else { return "nothing" }
                let tag = pick(["x", "y", "z"])!
                try store.tag("\(run)@\(entry.step)", as: tag)
                model.tags[tag] = entry.bytes
                return "tag \(tag) \(run)@\(entry.step)"
            case 8:
                guard let tag = pick(model.tags.keys.sorted()) else { return "nothing" }
                try store.removeTag(tag)
                model.tags[tag] = nil
                return "tag -d \(tag)"
            case 9:
                guard let (run, entry) = pick(model.entries) else { return "nothing" }
                if model.pins.contains(entry.bytes) {
                    try store.unpin("\(run)@\(entry.step)")
                    model.pins.remove(entry.bytes)
                } else {
                    try store.pin("\(run)@\(entry.step)")
                    model.pins.insert(entry.bytes)
                }
                return "pin or unpin \(run)@\(entry.step)"
            case 10:
                return try remove()
            case 11..<15:
                let (last, every) = (Int.random(in: 1...4, using: &random), UInt64.random(in: 2...5, using: &random))
                var policy = RetentionPolicy()
                (policy.keepLast, policy.keepEvery) = (last, every)
                let plan = try store.plan(policy)
                let expected = model.dropped(last: last, every: every)
                #expect(Set(plan.dropped.map(\.ref)) == Set(expected.map { "\($0.run)@\($0.entry.step)" }))
                // What a kill has left is released first, and is none of this prune's.
                let isClean = try Store.verify(store.path, depth: .quick).pending == 0
                let before = try store.stats().packedBytes
                let result = try store.prune(plan, rebases: Int.random(in: 0..<4, using: &random) > 0)
                let after = try store.stats().packedBytes
                #expect(!isClean || result.freedBytes == before - after, "\(result.freedBytes) freed, \(before) before, \(after) after")
                for (run, entry) in expected { model.remove(run, entry.step) }
                return "prune \(last) \(every)"
            case 15:
                try store.compact()
                return "compact"
            default:
                return try kill()
            }
        }

        private func remove() throws -> String {
            guard let (run, entry) = pick(model.entries) else { return "nothing" }
            let ref = "\(run)@\(entry.step)"
            let isNamed = model.tags.values.contains(entry.bytes) || model.pins.contains(entry.bytes)
            let isLast = model.entries.count { $0.entry.bytes == entry.bytes } == 1
            if isNamed, isLast {
                #expect(throws: StoreError.self) { try store.remove(ref) }
            } else {
                try store.remove(ref)
                model.remove(run, entry.step)
            }
            return "rm \(ref)"
        }

        /// Kills a command at a random moment. What it would have done may have come to pass, of a prune any part of it.
        private func kill() throws -> String {
            var added: (run: String, entry: Model.Entry)?
            var removed: [(run: String, entry: Model.Entry)] = []
            let arguments: [String]
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                let checkpoint = try checkpoint()
                arguments = self.arguments(checkpoint)
                added = (checkpoint.run, .init(step: checkpoint.step, bytes: checkpoint.bytes))
            case 1, 2:
                let (last, every) = (Int.random(in: 1...3, using: &random), UInt64.random(in: 2...5, using: &random))
                arguments = ["prune", "--keep-last", "\(last)", "--keep-every", "\(every)"]
                removed = model.dropped(last: last, every: every)
            default:
                arguments = ["compact"]
            }
            let command = try Command.start(arguments + ["--store", store.path])
            usleep(useconds_t.random(in: 0...45_000, using: &random))
            command.send(SIGKILL)
            if command.wait().signal == SIGKILL { kills += 1 }
            try settle()
            let there = Set(try store.history().map { "\($0.run)@\($0.step)" })
            if let added, there.contains("\(added.run)@\(added.entry.step)") { model.runs[added.run, default: []].append(added.entry) }
            for (run, entry) in removed where !there.contains("\(run)@\(entry.step)") { model.remove(run, entry.step) }
            return "kill of \(arguments.joined(separator: " "))"
        }

        /// A commit whose writer was killed after the meta page and before it told the lock file comes to pass with the next writer.
        private func settle() throws {
            let generation = try String(contentsOfFile: store.path + "/current", encoding: .utf8).trimmingCharacters(in: .newlines)
            try Environment.open(path: store.path + "/" + generation).beginWrite().abort()
        }

        /// Compares all of the store with the model.
        func check(_ moment: String) throws {
            let entries = model.entries
            let history = try store.history()
            #expect(history.map { "\($0.run)@\($0.step)" } == entries.map { "\($0.run)@\($0.entry.step)" }, "\(moment)")
            let tags = try store.tags()
            #expect(tags.map(\.name) == model.tags.keys.sorted(), "\(moment)")
            var checked: Set<[UInt8]> = []
            for (found, (run, entry)) in zip(history, entries) {
                #expect(found.isPinned == model.pins.contains(entry.bytes), "\(moment): \(run)@\(entry.step)")
                #expect(tags.filter { $0.id == found.id }.map(\.name) == model.tags.filter { $0.value == entry.bytes }.keys.sorted(), "\(moment)")
                guard checked.insert(entry.bytes).inserted else { continue }
                let files = try fixture.export("\(run)@\(entry.step)")
                #expect(Array(files.values) == [Data(entry.bytes)], "\(moment): \(run)@\(entry.step)")
            }
            let report = try Store.verify(store.path, depth: .full)
            #expect(report.problems.map(\.description) == [], "\(moment)")
        }
    }

    @Test func randomHistory() throws {
        let seed = ProcessInfo.processInfo.environment["CKPT_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1_000_000)
        print("ModelTests: seed \(seed), \(ModelTests.steps) steps; CKPT_SEED=\(seed) repeats it")
        let history = try History(seed: seed)
        for step in 0..<ModelTests.steps {
            let what = try history.step()
            try history.check("seed \(seed), step \(step): \(what)")
            if step % 1000 == 999 { print("ModelTests: \(step + 1) steps, \(history.kills) kills") }
        }
        // Nothing leaks: with all snapshots gone, nothing is left.
        let (store, model) = (history.store, history.model)
        for tag in model.tags.keys { try store.removeTag(tag) }
        for entry in try store.history() where entry.isPinned { try store.unpin("\(entry.id)") }
        for run in model.runs.keys.sorted() {
            for entry in model.runs[run]!.reversed() { try store.remove("\(run)@\(entry.step)") }
        }
        let stats = try store.stats()
        #expect(stats.blocks == 0 && stats.tensors == 0)
        try store.compact()
        #expect(try store.stats().storeBytes < 3 << 20)
    }
}
