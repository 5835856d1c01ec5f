import CheckpointStore
import Foundation
import Synchronization
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

/// Several processes at one store.
@Suite struct ProcessTests {
    /// An ingest that holds the lock and does not go on.
    private func stoppedIngest(_ fixture: StoreFixture) throws -> RunningCommand {
        var random = SeededBytes(1)
        let path = fixture.path("big.safetensors")
        try FileTree.write(SafetensorsFixture([.init("t", .u8, [48 << 20], random.bytes(48 << 20))]).bytes, to: path)
        let command = try Command.start(["ingest", path, "--run", "big", "--store", fixture.store.path])
        let lock = fixture.store.path + "/lock"
        for _ in 0..<2000 {
            if let text = try? String(contentsOfFile: lock, encoding: .utf8), text.hasPrefix("pid \(command.processID) ") { break }
            usleep(1000)
        }
        command.send(SIGSTOP)
        try #require(command.isRunning, "too fast to be stopped: \(command.output)")
        return command
    }

    @Test func secondWriterWaitsAndSaysWhoHoldsTheStore() throws {
        let fixture = try StoreFixture(lockTimeout: 0.3)
        let model = SafetensorsFixture.model(seed: 1)
        let small = fixture.path("small.safetensors")
        try FileTree.write(model.bytes, to: small)
        try fixture.ingest(model.bytes, run: "before", step: 1)
        let holder = try stoppedIngest(fixture)

        let arguments = ["ingest", small, "--run", "small", "--store", fixture.store.path]
        let second = try Command.run(arguments + ["--lock-timeout", "0.5"])
        #expect(second.status == 75)
        #expect(second.seconds >= 0.5)
        #expect(second.errorLines.count == 1 && second.errors.contains("pid \(holder.processID) ") && second.errors.contains("--lock-timeout"))
        #expect(second.output == "")
        let json = try Command.run(arguments + ["--lock-timeout", "0", "--json"])
        #expect(json.status == 75 && json.errors.contains("\"code\":75"))
        #expect { try fixture.store.remove("before") } throws: { ($0 as? StoreError)?.code == .locked }

        // Readers do not wait.
        #expect(try Command.run(["log", "--store", fixture.store.path]).status == 0)
        #expect(try Command.run(["verify", "--store", fixture.store.path]).status == 0)
        #expect(try fixture.export("before") == ["model.safetensors": Data(model.bytes)])

        // One that waits is let in when the holder is killed.
        let waiting = try Command.start(arguments + ["--lock-timeout", "60"])
        usleep(200_000)
        #expect(waiting.isRunning)
        // Ctrl-C ends the wait.
        let stopped = try Command.start(arguments + ["--lock-timeout", "60"])
        usleep(300_000)
        stopped.send(SIGINT)
        let end = stopped.wait(timeout: 10)
        #expect(end.status == 130 && end.seconds < 5, "\(end)")

        holder.send(SIGKILL)
        holder.wait()
        let outcome = waiting.wait(timeout: 30)
        #expect(outcome.status == 0, "\(outcome)")
        try fixture.expectWhole()
        #expect(try fixture.store.history().map(\.run) == ["before", "small"])
    }

    @Test func everyWriterWaitsInterruptibly() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
        try fixture.ingest(SafetensorsFixture.model(seed: 2).bytes, run: "r", step: 2)
        let holder = try stoppedIngest(fixture)
        for arguments in [["rm", "r@1"], ["pin", "r@1"], ["unpin", "r@1"], ["path", "r@1"]] {
            let command = try Command.start(arguments + ["--store", fixture.store.path, "--lock-timeout", "3"])
            usleep(300_000)
            command.send(SIGINT)
            let end = command.wait(timeout: 20)
            #expect(end.status == 130 && end.seconds < 2.5, "\(arguments): \(end)")
        }
        holder.send(SIGKILL)
        holder.wait()
    }

    @Test func eightReadersSeeOnlyWholeSnapshots() throws {
        let fixture = try StoreFixture()
        let source = fixture.path("out")
        let count = runsSlowTests ? 60 : 25
        for step in 1...count { try FakeTrainer.write(step: step, seed: UInt64(step), to: source, layers: 6, rows: 256, columns: 256) }
        let originals = try (1...count).map { try FileTree.contents(of: "\(source)/checkpoint-\($0)") }
        let writer = try Command.start(["ingest", source, "--store", fixture.store.path, "--no-optimizer"])
        let problems = Mutex<[String]>([])
        let reads = Mutex(0)
        DispatchQueue.concurrentPerform(iterations: 8) { reader in
            var seen = 0
            var rounds = 0
            repeat {
                rounds += 1
                do {
                    if reader < 5 {
                        seen = try ProcessTests.readAsProcess(fixture, reader, seen, originals)
                    } else {
                        seen = try ProcessTests.readInProcess(fixture, reader, seen, originals)
                    }
                } catch {
                    problems.withLock { $0.append("reader \(reader): \(error)") }
                }
            } while writer.isRunning && rounds < 1000
            reads.withLock { $0 += rounds }
        }
        #expect(writer.wait().status == 0)
        #expect(Set(problems.withLock { $0 }) == [])
        #expect(reads.withLock { $0 } > 8)
        try fixture.expectWhole()
        #expect(try fixture.store.history().count == count)
    }

    private struct Wrong: Error { var what: String }

    private static func readAsProcess(_ fixture: StoreFixture, _ reader: Int, _ seen: Int, _ originals: [[String: Data]]) throws -> Int {
        let store = ["--store", fixture.store.path, "--json"]
        let log = try Command.run(["log"] + store)
        guard log.status == 0, let entries = try log.json() as? [[String: Any]] else { throw Wrong(what: "log: \(log)") }
        guard entries.count >= seen else { throw Wrong(what: "\(seen) snapshots, then \(entries.count)") }
        guard let newest = entries.last, let step = newest["step"] as? Int else { return entries.count }
        switch reader {
        case 0:
            let outcome = try Command.run(["verify"] + store)
            guard outcome.status == 0 else { throw Wrong(what: "verify: \(outcome)") }
        case 1:
            let target = fixture.path("reader-\(UUID().uuidString)")
            let outcome = try Command.run(["export", "out@\(step)", target] + store)
            guard outcome.status == 0 else { throw Wrong(what: "export: \(outcome)") }
            guard FileTree.differences(try FileTree.contents(of: target), originals[step - 1].filter { $0.key != "optimizer.pt" }).isEmpty
            else { throw Wrong(what: "export differs") }
        case 2:
            let outcome = try Command.run(["diff", "out", "out~\(min(1, entries.count - 1))"] + store)
            guard outcome.status == 0 else { throw Wrong(what: "diff: \(outcome)") }
        case 3:
            let outcome = try Command.run(["show", "out@\(step)", "--tensors"] + store)
            guard outcome.status == 0 else { throw Wrong(what: "show: \(outcome)") }
        default:
            let outcome = try Command.run(["verify", "--quick"] + store)
            guard outcome.status == 0 else { throw Wrong(what: "verify --quick: \(outcome)") }
        }
        return entries.count
    }

    private static func readInProcess(_ fixture: StoreFixture, _ reader: Int, _ seen: Int, _ originals: [[String: Data]]) throws -> Int {
        // Opened anew each time by one of them.
        let store = reader == 7 ? try Store.open(fixture.store.path) : fixture.store
        let history = try store.history()
        guard history.count >= seen else { throw Wrong(what: "\(seen) snapshots, then \(history.count)") }
        for entry in history.suffix(2) {
            let bytes = try fixture.bytes(of: "layers.1.weight", in: "out@\(entry.step)")
            guard let file = originals[Int(entry.step) - 1]["model.safetensors"], file.range(of: Data(bytes)) != nil else {
                throw Wrong(what: "out@\(entry.step): wrong bytes")
            }
        }
        return history.count
    }

    /// Two stores opened and dropped again and again share one environment, also while one of them closes it.
    @Test func openingAndClosingInManyThreads() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture.model(seed: 1)
        try fixture.ingest(model.bytes, run: "r", step: 1)
        try FileManager.default.copyItem(atPath: fixture.store.path, toPath: fixture.path("copy"))
        let path = fixture.path("copy")
        let problems = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 6) { thread in
            for round in 0..<150 {
                do {
                    let store = try Store.open(path)
                    guard try store.history().count >= 1 else { throw Wrong(what: "no history") }
                    if thread == 0, round % 10 == 0 { try store.tag("r", as: "t\(round)") }
                    if thread > 3 {
                        let reader = try store.contents("r").makeReader()
                        let entry = try store.snapshot("r").tensor("layers.0.weight")
                        try reader.withBytes(of: entry, 0..<entry.byteCount) { bytes in
                            guard Array(bytes) == model.tensors[0].bytes else { throw Wrong(what: "wrong bytes") }
                        }
                    }
                } catch {
                    problems.withLock { $0.append("\(error)") }
                }
            }
        }
        #expect(Set(problems.withLock { $0 }) == [])
        #expect(try Store.verify(path, depth: .full).problems.isEmpty)
        #expect(try Store.open(path).tags().count == 15)
    }

    /// `rm` that waited for the lock while the step was given to another snapshot takes neither.
    @Test func removeWhileTheStepIsReplaced() throws {
        for _ in 0..<6 {
            let fixture = try StoreFixture()
            let model = SafetensorsFixture.model(seed: 1)
            try fixture.ingest(model.bytes, run: "r", step: 1)
            try fixture.ingest(model.bytes, run: "other", step: 1)
            let replacement = fixture.path("two.safetensors")
            try FileTree.write(SafetensorsFixture.model(seed: 2).bytes, to: replacement)
            let holder = try stoppedIngest(fixture)
            let path = fixture.store.path
            let remove = try Command.start(["rm", "r@1", "--store", path])
            let replace = try Command.start(["ingest", replacement, "--run", "r", "--step", "1", "--replace", "--store", path])
            usleep(300_000)
            // The waiting ones try every 20 ms: either may be first.
            holder.send(SIGKILL)
            holder.wait()
            _ = remove.wait()
            #expect(replace.wait().status == 0)
            try fixture.expectWhole()
            #expect(try fixture.store.history(of: "other").count == 1)
        }
    }

    /// `verify` beside writers that commit all the time finds nothing wrong.
    @Test func verifyBesideSmallCommits() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
        let isDone = Mutex(false)
        let found = Mutex<[String]>([])
        DispatchQueue.concurrentPerform(iterations: 2) { index in
            if index == 0 {
                for round in 0..<(runsSlowTests ? 400 : 60) {
                    do {
                        try fixture.ingest(SafetensorsFixture.model(seed: UInt64(round + 2)).bytes, run: "r", step: UInt64(round + 2))
                        if round % 3 == 0 { try fixture.store.remove("r~1") }
                    } catch {
                        found.withLock { $0.append("\(error)") }
                    }
                }
                isDone.withLock { $0 = true }
            } else {
                while !isDone.withLock({ $0 }) {
                    do {
                        let report = try Store.verify(fixture.store.path, depth: .full)
                        found.withLock { $0 += report.problems.map(\.description) }
                    } catch {
                        found.withLock { $0.append("\(error)") }
                    }
                }
            }
        }
        #expect(found.withLock { $0 } == [])
        try fixture.expectWhole()
    }

    /// A directory of very many small files takes no more descriptors than a process has.
    @Test func manyFilesWithFewDescriptors() throws {
        let fixture = try StoreFixture()
        let checkpoint = try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        for index in 0..<1200 { try FileTree.write("file \(index)", to: "\(checkpoint)/parts/\(index % 7)/\(index).txt") }
        let limited = { (arguments: String) in
            try Command.start(["-c", "ulimit -n 256; exec \(Command.path) \(arguments) --store \(fixture.store.path)"], program: "/bin/sh").wait()
        }
        let ingest = try limited("ingest \(checkpoint)")
        #expect(ingest.status == 0, "\(ingest.errors)")
        guard ingest.status == 0 else { return }
        let export = try limited("export out@1 \(fixture.path("export"))")
        #expect(export.status == 0, "\(export.errors)")
        #expect(FileTree.differences(try FileTree.contents(of: fixture.path("export")), try FileTree.contents(of: checkpoint)) == [])
        #expect(try limited("verify").status == 0)
    }
}
