import CheckpointStore
import Foundation
import Synchronization
import TensorFormats
import TestSupport
import Testing

/// Compaction: the same store in less space, while others go on.
@Suite struct CompactTests {
    private static func generations(_ fixture: StoreFixture) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: fixture.store.path).filter { $0.hasPrefix("gen-") }.sorted()
    }

    private static func dataBytes(_ fixture: StoreFixture, _ generation: Int) throws -> Int {
        let path = fixture.store.path + "/gen-\(generation)/data.mdb"
        return try #require(try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int)
    }

    /// Steps 1 to 4 of run `r`, each of a few blocks; without images, so that reads are of blocks.
    private static func filled() throws -> StoreFixture {
        let fixture = try StoreFixture()
        for step: UInt64 in 1...4 {
            let model = SafetensorsFixture.model(seed: step, layers: 6, rows: 256, columns: 256)
            try fixture.ingest(model.bytes, run: "r", step: step) { $0.makesImage = false }
        }
        return fixture
    }

    @Test func sameContentInLessSpace() throws {
        let fixture = try CompactTests.filled()
        try fixture.store.pin("r@2")
        try fixture.store.tag("r@2", as: "t")
        try fixture.store.remove("r@1")
        try fixture.store.remove("r@3")
        let state = try fixture.state()
        let exports = try [2, 4].map { try fixture.export("r@\($0)") }
        let before = try CompactTests.dataBytes(fixture, 1)
        let progress = Mutex<[ByteProgress]>([])
        let result = try fixture.store.compact { part in progress.withLock { $0.append(part) } }
        #expect(result.generation == 2 && !result.isOldInUse)
        #expect(Int(result.beforeBytes) == before)
        #expect(try Int(result.afterBytes) == CompactTests.dataBytes(fixture, 2))
        #expect(Double(result.afterBytes) < 0.6 * Double(before), "\(result)")
        #expect(try CompactTests.generations(fixture) == ["gen-2"])
        let parts = progress.withLock { $0 }
        #expect(!parts.isEmpty && parts.allSatisfy { $0.doneBytes <= $0.totalBytes && $0.totalBytes > 0 })
        #expect(zip(parts, parts.dropFirst()).allSatisfy { $0.doneBytes <= $1.doneBytes })
        #expect(try fixture.state() == state)
        #expect(try [2, 4].map { try fixture.export("r@\($0)") } == exports)
        try fixture.expectWhole()
        // And goes on as before.
        try fixture.ingest(SafetensorsFixture.model(seed: 9).bytes, run: "r", step: 9)
        let again = try fixture.store.compact()
        #expect(again.generation == 3)
        try fixture.expectWhole()
    }

    @Test func emptyStore() throws {
        let fixture = try StoreFixture()
        #expect(try fixture.store.compact().generation == 2)
        try fixture.expectWhole()
    }

    /// A reader keeps the old generation; what is written afterwards is in the new one.
    @Test func readerGoesOnInTheOldGeneration() throws {
        let fixture = try CompactTests.filled()
        let bytes = try fixture.bytes(of: "layers.3.weight", in: "r@2")
        let entry = try fixture.store.snapshot("r@2").tensor("layers.3.weight")
        var reader: TensorReader? = try fixture.store.contents("r@2").makeReader()
        let contents = try fixture.store.contents("r@3")
        #expect(try fixture.store.compact().isOldInUse)
        #expect(try CompactTests.generations(fixture) == ["gen-1", "gen-2"])
        try fixture.store.remove("r@2")
        for range in entry.blockRanges {
            try reader?.withBytes(of: entry, range) { found in
                #expect(found.elementsEqual(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
            }
        }
        try fixture.expectWhole()
        #expect(try CompactTests.generations(fixture) == ["gen-1", "gen-2"])
        reader = nil
        // What was found before, but not yet read, is read in the new one.
        let later = try contents.makeReader()
        let weight = try #require(contents.tensors.first { $0.name == "layers.0.weight" })
        try later.withBytes(of: weight, 0..<16) { #expect($0.count == 16) }
        try fixture.store.unpin("r")
        #expect(try CompactTests.generations(fixture) == ["gen-2"])
    }

    /// Another process compacts; a handle that has long been open sees what comes after.
    @Test func longLivedHandleFollows() throws {
        let fixture = try CompactTests.filled()
        let outcome = try Command.run(["compact", "--store", fixture.store.path])
        // This process has the old one open: its lock on it is seen.
        #expect(outcome.status == 0 && outcome.errors.contains("still open"), "\(outcome)")
        #expect(try CompactTests.generations(fixture) == ["gen-1", "gen-2"])
        #expect(try Command.run(["tag", "later", "r@3", "--store", fixture.store.path]).status == 0)
        #expect(try fixture.store.tags().map(\.name) == ["later"])
        #expect(try fixture.store.snapshot("later").id == fixture.store.snapshot("r@3").id)
        _ = try Command.run(["pin", "r@3", "--store", fixture.store.path])
        #expect(try CompactTests.generations(fixture) == ["gen-2"])
        try fixture.expectWhole()
    }

    @Test func processThatReadsKeepsTheOldGeneration() throws {
        let fixture = try StoreFixture()
        var random = SeededBytes(5)
        // Many small blocks: its export can be stopped half-way.
        let tensors = (0..<20_000).map { SafetensorsFixture.Tensor("t\($0)", .u8, [1024], random.bytes(1024)) }
        let model = SafetensorsFixture(tensors)
        try fixture.ingest(model.bytes, run: "r", step: 1) { $0.makesImage = false }
        let target = fixture.path("exports/one")
        let export = try Command.start(["export", "r", target, "--store", fixture.store.path])
        for _ in 0..<5000 where !FileManager.default.fileExists(atPath: fixture.path("exports")) { usleep(500) }
        export.send(SIGSTOP)
        try #require(export.isRunning)
        #expect(try fixture.store.compact().isOldInUse)
        #expect(try CompactTests.generations(fixture) == ["gen-1", "gen-2"])
        export.send(SIGCONT)
        let outcome = export.wait()
        #expect(outcome.status == 0, "\(outcome)")
        #expect(try FileTree.bytes(target + "/model.safetensors") == model.bytes)
        try fixture.store.unpin("r")
        #expect(try CompactTests.generations(fixture) == ["gen-2"])
    }

    /// Tags take no store lock: those set while compactions run are all there afterwards.
    @Test func tagsMeanwhileAreKept() throws {
        let fixture = try CompactTests.filled()
        let path = fixture.store.path
        let isDone = Mutex(false)
        let problems = Mutex<[String]>([])
        let tags = Mutex<Set<String>>([])
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            do {
                switch thread {
                case 0:
                    for _ in 0..<5 { try fixture.store.compact() }
                    isDone.withLock { $0 = true }
                case 1:
                    while !isDone.withLock({ $0 }) {
                        let count = try fixture.store.history().count
                        if count != 4 { problems.withLock { $0.append("\(count) snapshots") } }
                        _ = try Store.open(path).snapshot("r@2").tensors
                    }
                default:
                    var round = 0
                    while !isDone.withLock({ $0 }) || round == 0 {
                        let name = "t\(thread)-\(round)"
                        if thread == 2 {
                            try fixture.store.tag("r@1", as: name)
                        } else {
                            let outcome = try Command.run(["tag", name, "r@2", "--store", path])
                            if outcome.status != 0 { problems.withLock { $0.append("\(outcome)") } }
                        }
                        tags.withLock { _ = $0.insert(name) }
                        round += 1
                    }
                }
            } catch {
                problems.withLock { $0.append("thread \(thread): \(error)") }
                isDone.withLock { $0 = true }
            }
        }
        #expect(problems.withLock { $0 } == [])
        #expect(Set(try fixture.store.tags().map(\.name)) == tags.withLock { $0 })
        try fixture.expectWhole()
    }

    @Test func whatAKilledCompactionLeftIsRemoved() throws {
        let fixture = try CompactTests.filled()
        let store = fixture.store.path
        try FileTree.write("half a copy", to: store + "/gen-2/data.mdb")
        #expect(try fixture.store.compact().generation == 2)
        try fixture.expectWhole()
        try FileTree.write("half a copy", to: store + "/gen-3/data.mdb")
        try FileTree.write("half removed", to: store + "/gen-1.gone/lock.mdb")
        try fixture.store.unpin("r")
        #expect(try CompactTests.generations(fixture) == ["gen-2"])
    }

    @Test func cancelledCompactionLeavesNothing() throws {
        let fixture = try CompactTests.filled()
        try fixture.expectRefusal(.interrupted) { try fixture.store.compact(monitor: Monitor(isCancelled: { true })) }
        #expect(try CompactTests.generations(fixture) == ["gen-1"])
    }

    @Test func damagedBlockIsRefused() throws {
        let fixture = try CompactTests.filled()
        let id = try ContentID.hash(of: fixture.bytes(of: "layers.2.weight", in: "r@3"))
        try DamageTests.edit(fixture, "blocks", { $0 == id.bytes }) { value in
            var value = value
            value[value.count / 2] ^= 1
            return value
        }
        let refusal = try storeError { try fixture.store.compact() }
        #expect(refusal?.code == .damaged)
        #expect(refusal?.reason.contains("\(id)") == true && refusal?.reason.contains("r@3") == true, "\(refusal as Any)")
        #expect(try CompactTests.generations(fixture) == ["gen-1"])
        #expect(try fixture.store.history().count == 4)
    }
}
