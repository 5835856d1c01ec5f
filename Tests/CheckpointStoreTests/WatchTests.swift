import CheckpointStore
import Foundation
import TestSupport
import Testing

/// A directory that a trainer writes to is followed, whatever moment it is looked at.
@Suite struct WatchTests {
    private func watch(_ fixture: StoreFixture, _ settle: Double = 5) -> CheckpointWatch {
        var options = CheckpointWatch.Options()
        options.settleSeconds = settle
        return CheckpointWatch(fixture.store, fixture.path("out"), options)
    }

    @Test func takesWhatIsComplete() throws {
        let fixture = try StoreFixture()
        let watch = watch(fixture)
        #expect(try watch.look(now: 0).absence == "not there yet")
        try FileManager.default.createDirectory(atPath: fixture.path("out"), withIntermediateDirectories: true)
        #expect(try watch.look(now: 1).absence?.contains("no model weights") == true)
        try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        letFilesSettle()
        #expect(try watch.look(now: 10).taken.isEmpty)
        #expect(try watch.look(now: 14.9).taken.isEmpty)
        // Something changes: the time begins anew.
        try FileTree.write("{\"hidden_size\": 49}\n", to: fixture.path("out/checkpoint-1/config.json"))
        #expect(try watch.look(now: 15.1).taken.isEmpty)
        #expect(try watch.look(now: 20).taken.isEmpty)
        letFilesSettle()
        #expect(try watch.look(now: 20.2).taken.map(\.step) == [1])
        #expect(try watch.look(now: 30).taken.isEmpty)
        // One that is still being written, at each stage of it, and a finished one beside it.
        let whole = try FakeTrainer.write(step: 2, seed: 2, to: fixture.path("parts"))
        for name in ["config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"] {
            #expect(try watch.look(now: 1000).taken.isEmpty)
            #expect(try watch.look(now: 2000).taken.isEmpty)
            try FileTree.write(FileTree.bytes(whole + "/" + name), to: fixture.path("out/checkpoint-2/" + name))
        }
        try FakeTrainer.write(step: 3, seed: 3, to: fixture.path("out"))
        letFilesSettle()
        _ = try watch.look(now: 3000)
        #expect(try watch.look(now: 3006).taken.map(\.step) == [2, 3])
        try fixture.expectWhole()
        // Another process that begins with this directory.
        let again = self.watch(fixture)
        let look = try again.look(now: 0)
        #expect(look.taken.isEmpty && look.waiting.isEmpty && look.originals.map(\.ref) == ["out@1", "out@2", "out@3"])
    }

    /// Without the state that trainers write last, longer is waited.
    @Test func withoutTrainerState() throws {
        let fixture = try StoreFixture()
        let directory = try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"), optimizer: false)
        try FileManager.default.removeItem(atPath: directory + "/trainer_state.json")
        letFilesSettle()
        let watch = watch(fixture)
        for now in [0.0, 6, 29] { #expect(try watch.look(now: now).taken.isEmpty) }
        #expect(try watch.look(now: 31).taken.count == 1)
    }

    @Test func whatCannotBeTakenIsToldOnce() throws {
        let fixture = try StoreFixture()
        try FileTree.write("no tensors", to: fixture.path("out/checkpoint-1/model.safetensors"))
        try FakeTrainer.write(step: 2, seed: 1, to: fixture.path("out"))
        letFilesSettle()
        let watch = watch(fixture, 0)
        let look = try watch.look(now: 100)
        #expect(look.refused.count == 1 && look.refused[0].error.code == .badInput && look.taken.map(\.step) == [2])
        #expect(try watch.look(now: 200).refused.isEmpty)
    }

    /// What a policy has dropped does not come back with its series, but does when it is asked for.
    @Test func prunedStayAway() throws {
        let fixture = try StoreFixture()
        for step in 1...5 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        letFilesSettle()
        try fixture.ingest(fixture.path("out"))
        var policy = RetentionPolicy()
        policy.keepLast = 2
        _ = try fixture.store.prune(fixture.store.plan(policy))
        #expect(try watch(fixture, 0).look(now: 100).taken.isEmpty)
        let again = try fixture.ingest(fixture.path("out"))
        #expect(again.map(\.outcome) == [.pruned, .pruned, .pruned, .unchanged, .unchanged])
        #expect(try fixture.store.history().map(\.step) == [4, 5])
        let named = try fixture.ingest(fixture.path("out/checkpoint-2"))
        #expect(named.map(\.outcome) == [.stored])
        // One that has changed is another.
        try FakeTrainer.write(step: 1, seed: 10, to: fixture.path("out"))
        letFilesSettle()
        #expect(try fixture.ingest(fixture.path("out")).map(\.outcome) == [.stored, .unchanged, .pruned, .unchanged, .unchanged])
        // What was removed by hand comes back.
        try fixture.store.remove("out@4")
        #expect(try fixture.ingest(fixture.path("out")).map(\.outcome) == [.unchanged, .unchanged, .pruned, .stored, .unchanged])
        try fixture.expectWhole()
    }

    @Test func originalsGoOnceTheyAreCompared() throws {
        let fixture = try StoreFixture()
        for step in 1...3 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        letFilesSettle()
        let watch = watch(fixture, 0)
        #expect(try watch.look(now: 1).taken.count == 3)
        // One byte that the store has not; a file that it has not; one that is shorter.
        var bytes = try FileTree.bytes(fixture.path("out/checkpoint-1/model.safetensors"))
        bytes[bytes.count - 1] ^= 1
        try FileTree.write(bytes, to: fixture.path("out/checkpoint-1/model.safetensors"))
        try FileTree.write("new", to: fixture.path("out/checkpoint-2/sub/new.txt"))
        for (step, word) in [(1, "differs"), (2, "not in the store")] {
            #expect(throws: StoreError.self, "\(word)") { try watch.removeOriginal(fixture.path("out/checkpoint-\(step)"), of: "out@\(step)") }
            #expect(FileManager.default.fileExists(atPath: fixture.path("out/checkpoint-\(step)/config.json")))
        }
        #expect(throws: StoreError.self) { try watch.removeOriginal(fixture.path("out/checkpoint-3"), of: "out@2") }
        #expect(throws: StoreError.self) { try watch.removeOriginal(fixture.path("out/nothing"), of: "out@2") }
        let original = try FileTree.contents(of: fixture.path("out/checkpoint-3"))
        try watch.removeOriginal(fixture.path("out/checkpoint-3"), of: "out@3")
        #expect(!FileManager.default.fileExists(atPath: fixture.path("out/checkpoint-3")))
        #expect(FileTree.differences(try fixture.export("out@3"), original) == [])
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.path("out")).sorted() == ["checkpoint-1", "checkpoint-2"])
    }

    /// The command: policy after each, originals removed, killed and begun again.
    @Test func command() throws {
        let fixture = try StoreFixture()
        let store = fixture.store.path
        let out = fixture.path("out")
        for step in 1...4 { try FakeTrainer.write(step: step, seed: UInt64(step), to: out) }
        letFilesSettle()
        var originals: [Int: [String: Data]] = [:]
        for step in 1...6 { originals[step] = try FileTree.contents(of: FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("reference"))) }
        let save = try Command.run(["prune", "--keep-last", "2", "--keep-every", "3", "--save", "--store", store])
        #expect(save.status == 0, "\(save)")
        let once = try Command.run(["watch", out, "--once", "--settle", "0.2", "--interval", "0.1", "--store", store])
        #expect(once.status == 0, "\(once)")
        #expect(try fixture.store.history().map(\.step) == [3, 4])
        let running = try Command.start(["watch", out, "--settle", "0.2", "--interval", "0.1", "--move", "--json", "--store", store])
        try FakeTrainer.write(step: 5, seed: 5, to: out)
        for _ in 0..<100 where try FileManager.default.contentsOfDirectory(atPath: out).sorted() != ["checkpoint-1", "checkpoint-2", "checkpoint-5"] {
            usleep(100_000)
        }
        running.send(SIGKILL)
        running.wait()
        // Those that a policy has dropped are not in the store, so they are left.
        #expect(try FileManager.default.contentsOfDirectory(atPath: out).sorted() == ["checkpoint-1", "checkpoint-2", "checkpoint-5"])
        #expect(try fixture.store.history().map(\.step) == [3, 4, 5])
        try FakeTrainer.write(step: 6, seed: 6, to: out)
        let last = try Command.start(["watch", out, "--settle", "0.2", "--interval", "0.1", "--store", store])
        for _ in 0..<100 where try fixture.store.history().last?.step != 6 { usleep(100_000) }
        last.send(SIGTERM)
        #expect(last.wait().status == 130)
        for entry in try fixture.store.history() {
            #expect(FileTree.differences(try fixture.export("out@\(entry.step)"), originals[Int(entry.step)]!) == [])
        }
        try fixture.expectWhole()
    }

    /// The policy drops nothing before its original was compared; then both go.
    @Test func moveWithAPolicy() throws {
        let fixture = try StoreFixture()
        for step in 1...5 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        letFilesSettle()
        let store = ["--store", fixture.store.path]
        #expect(try Command.run(["prune", "--keep-last", "3", "--optimizer-keep", "1", "--run", "out", "--save"] + store).status == 0)
        for leave in [2, 0] {
            let outcome = try Command.run(["watch", fixture.path("out"), "--once", "--move", "--leave", "\(leave)", "--settle", "0"] + store)
            #expect(outcome.status == 0 && !outcome.errors.contains("left in place"), "\(outcome)")
            let left = try FileManager.default.contentsOfDirectory(atPath: fixture.path("out"))
            #expect(left.count == leave, "\(left)")
        }
        #expect(try fixture.store.history().map(\.step) == [3, 4, 5])
        #expect(try fixture.store.history().map { try fixture.store.snapshot("\($0.id)").dropped.count } == [1, 1, 0])
        try fixture.expectWhole()
    }

    @Test func onceGivesUpOnWhatStaysIncomplete() throws {
        let fixture = try StoreFixture()
        for step in 1...3 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        try FileManager.default.removeItem(atPath: fixture.path("out/checkpoint-3/trainer_state.json"))
        letFilesSettle()
        let outcome = try Command.run(["watch", fixture.path("out"), "--once", "--settle", "0.1", "--interval", "0.1", "--store", fixture.store.path], timeout: 30)
        #expect(outcome.status == 65 && outcome.errors.contains("checkpoint-3") && outcome.errors.contains("given up"), "\(outcome)")
        #expect(try fixture.store.history().map(\.step) == [1, 2])
        let absent = try Command.run(["watch", fixture.path("nowhere"), "--once", "--store", fixture.store.path])
        #expect(absent.status == 65 && absent.errors.contains("no such directory"), "\(absent)")
    }
}
