import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// Runs, steps, refs, tags, pins, images.
@Suite struct HistoryTests {
    private func bytes(_ seed: UInt64) -> [UInt8] { SafetensorsFixture.model(seed: seed).bytes }

    @Test func refs() throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        var ids: [UInt64: ContentID] = [:]
        for step: UInt64 in [30, 10, 20] { ids[step] = try fixture.ingest(bytes(step), run: "r", step: step).id }
        let other = try fixture.ingest(bytes(5), run: "r2", step: 10).id
        try store.tag("r@20", as: "best")
        for (ref, id) in [
            ("r", ids[30]!), ("r@10", ids[10]!), ("r@30", ids[30]!), ("r~0", ids[30]!), ("r~", ids[20]!), ("r~1", ids[20]!),
            ("r~2", ids[10]!), ("best", ids[20]!), ("r2", other), ("\(other)", other), (other.short, other),
            (other.description.uppercased(), other),
        ] {
            #expect(try store.snapshot(ref).id == id, "\(ref)")
        }
        for ref in ["", "x", "r@11", "r@", "r@-1", "r@1e1", "@10", "r~3", "r~-1", "r~x", "x@1", "x~1", "abc", "~", "@", "best@1",
            "0000000000000000", String(repeating: "a", count: 64), String(repeating: "a", count: 65), String(repeating: "r", count: 5000)]
        {
            var found: ContentID?
            let refusal = try storeError { found = try store.snapshot(ref).id }
            // An id may begin so by chance.
            if let found { #expect(found.description.hasPrefix(ref) && ref.count >= 4, "\(ref) is no name") }
            #expect(refusal == nil || refusal?.code == .noSuchRef, "\(ref): \(String(describing: refusal))")
        }
        #expect(try store.history(of: "r").map(\.step) == [10, 20, 30])
        #expect(try store.history().map(\.run) == ["r", "r", "r", "r2"])
        #expect(try store.history(of: "r").map(\.isHead) == [false, false, true])
        // The head is the newest step, not the newest ingest; parents follow the steps that were there.
        #expect(try store.history(of: "r").map(\.parent) == [nil, ids[10], nil])
    }

    @Test func ambiguousPrefix() throws {
        let fixture = try StoreFixture()
        // Among 700 ids, two that share four digits are all but certain.
        var byPrefix: [Substring: ContentID] = [:]
        var pair: (ContentID, ContentID)?
        for step in 0..<700 where pair == nil {
            let tiny = SafetensorsFixture([.init("t", .u32, [1], withUnsafeBytes(of: UInt32(step)) { Array($0) })])
            let id = try fixture.ingest(tiny.bytes, run: "run\(step % 7)", step: UInt64(step)) { $0.makesImage = false }.id
            let prefix = id.description.prefix(4)
            if let twin = byPrefix[prefix] { pair = (twin, id) }
            byPrefix[prefix] = id
        }
        guard let pair else { return }
        let prefix = String(pair.0.description.prefix(4))
        #expect { try fixture.store.snapshot(prefix) } throws: { error in
            (error as? StoreError)?.code == .noSuchRef && "\(error)".contains(pair.0.short) && "\(error)".contains("more digits")
        }
        #expect(try fixture.store.snapshot(pair.1.short).id == pair.1)
    }

    @Test func runsWhoseNamesBeginAlike() throws {
        let fixture = try StoreFixture()
        for (index, run) in ["a", "a-b", "a.b", "ab", "a1", "aa", "ä"].enumerated() {
            try fixture.ingest(bytes(UInt64(index)), run: run, step: UInt64(index + 1))
        }
        for run in ["a", "a-b", "a.b", "ab", "a1", "aa", "ä"] {
            #expect(try fixture.store.history(of: run).count == 1)
            #expect(try fixture.store.steps(of: run).map(\.run) == [run])
        }
        #expect(throws: StoreError.self) { try fixture.store.history(of: "a.") }
    }

    @Test func largestStep() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(bytes(1), run: "r", step: .max)
        try fixture.ingest(bytes(2), run: "r", step: 0)
        #expect(try fixture.store.history(of: "r").map(\.step) == [0, .max])
        #expect(try fixture.store.snapshot("r").id == fixture.store.snapshot("r@\(UInt64.max)").id)
    }

    @Test(arguments: ["a@1", "a~1", "a:b", "a/b", "a b", "-a", "", "a\u{1b}", "a\u{0}b", String(repeating: "n", count: 201)])
    func impossibleNames(_ name: String) throws {
        let fixture = try StoreFixture()
        try fixture.ingest(bytes(1), run: "r", step: 1)
        try fixture.expectRefusal(.badInput) { try fixture.ingest(bytes(2), run: name, step: 2) }
        try fixture.expectRefusal(.badInput) { try fixture.store.tag("r", as: name) }
    }

    @Test func tagsAndRunsDoNotShareNames() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(bytes(1), run: "r", step: 1)
        try fixture.store.tag("r@1", as: "sft")
        try fixture.expectRefusal(.conflict) { try fixture.store.tag("r@1", as: "r") }
        try fixture.expectRefusal(.conflict) { try fixture.ingest(bytes(2), run: "sft", step: 1) }
        // A run's name that comes from its directory is no different.
        try FakeTrainer.write(step: 1, seed: 3, to: fixture.path("sft"))
        try fixture.expectRefusal(.conflict, saying: "sft") { try fixture.ingest(fixture.path("sft")) }
        // Nor is a tag given with the ingest that makes the run.
        try fixture.expectRefusal(.conflict) {
            try fixture.ingest(bytes(4), run: "new", step: 1) { $0.tags = ["new"] }
        }
    }

    @Test func runNamesFromLongDirectories() throws {
        let fixture = try StoreFixture()
        // 60 letters of four bytes each.
        let name = String(repeating: "𝔘", count: 60)
        try FakeTrainer.write(step: 1, seed: 3, to: fixture.path(name))
        try fixture.ingest(fixture.path(name))
        #expect(try fixture.store.history().count == 1)
        try fixture.expectWhole()
        let accents = "a" + String(repeating: "\u{301}", count: 120)
        try FakeTrainer.write(step: 1, seed: 4, to: fixture.path(accents))
        // One letter of 241 bytes: whatever becomes of it, it is no failure of LMDB's.
        let refusal = try storeError { try fixture.ingest(fixture.path(accents)) }
        #expect(refusal == nil || refusal?.code == .badInput, "\(String(describing: refusal))")
        try fixture.expectWhole()
    }

    @Test func tagsMoveAndGo() throws {
        let fixture = try StoreFixture()
        let first = try fixture.ingest(bytes(1), run: "r", step: 1).id
        let second = try fixture.ingest(bytes(2), run: "r", step: 2) { $0.tags = ["x", "y"] }.id
        #expect(try fixture.store.tags().map(\.name) == ["x", "y"])
        try fixture.store.tag("r@1", as: "x")
        #expect(try fixture.store.tags().map(\.id) == [first, second])
        try fixture.expectRefusal(.conflict, saying: "tagged", "x") { try fixture.store.remove("r@1") }
        try fixture.expectRefusal(.noSuchRef) { try fixture.store.removeTag("z") }
        try fixture.store.removeTag("x")
        try fixture.store.remove("r@1")
        try fixture.expectWhole()
    }

    @Test func pinnedSnapshotsStay() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(bytes(1), run: "r", step: 1)
        let path = try fixture.store.pin("r@1")
        try fixture.ingest(bytes(2), run: "r", step: 2)
        try fixture.ingest(bytes(3), run: "r", step: 3)
        #expect(try fixture.store.history(of: "r").map(\.hasImage) == [true, false, true])
        #expect(try FileTree.contents(of: path) == ["model.safetensors": Data(bytes(1))])
        try fixture.expectRefusal(.conflict, saying: "pinned") { try fixture.store.remove("r@1") }
        try fixture.expectRefusal(.conflict, saying: "pinned") {
            try fixture.ingest(bytes(4), run: "r", step: 1) { $0.replaces = true }
        }
        try fixture.store.unpin("r@1")
        #expect(!FileManager.default.fileExists(atPath: path))
        try fixture.store.unpin("r@1")
        try fixture.store.unpin("r@3")
        #expect(try fixture.store.history(of: "r").map(\.hasImage) == [false, false, true])
        try fixture.store.remove("r@1")
        try fixture.expectWhole()
    }

    @Test func replaceAndConflict() throws {
        let fixture = try StoreFixture()
        let first = try fixture.ingest(bytes(1), run: "r", step: 1).id
        let refusal = try fixture.expectRefusal(.conflict, saying: "r@1", first.short, "--replace") {
            try fixture.ingest(bytes(2), run: "r", step: 1)
        }
        let second = try fixture.ingest(bytes(2), run: "r", step: 1) { $0.replaces = true }
        #expect(refusal?.reason.contains(second.id.short) == true, "both ids are named")
        #expect(second.outcome == .stored)
        #expect(try fixture.store.history().map(\.id) == [second.id])
        #expect(throws: StoreError.self) { try fixture.store.snapshot("\(first)") }
        #expect(try fixture.export("r") == ["model.safetensors": Data(bytes(2))])
        try fixture.expectWhole()
        // The same again, with and without --replace, changes nothing.
        let state = try fixture.state()
        #expect(try fixture.ingest(bytes(2), run: "r", step: 1) { $0.replaces = true }.outcome == .known)
        #expect(try fixture.ingest(bytes(2), run: "r", step: 1).outcome == .known)
        #expect(try fixture.state() == state)
        try fixture.store.remove("r")
        #expect(try fixture.store.stats().blocks == 0)
        try fixture.expectWhole()
    }

    @Test func removeTakesOnlyWhatIsNamed() throws {
        let fixture = try StoreFixture()
        let id = try fixture.ingest(bytes(1), run: "a", step: 1).id
        try fixture.ingest(bytes(1), run: "a", step: 2)
        try fixture.ingest(bytes(1), run: "b", step: 1)
        try fixture.ingest(bytes(1), run: "c", step: 1)
        #expect(try fixture.store.remove("b@1").map(\.run) == ["b"])
        try fixture.expectWhole()
        #expect(try fixture.store.remove("a~1").map(\.step) == [1])
        try fixture.expectWhole()
        #expect(try fixture.store.history().map { "\($0.run)@\($0.step)" } == ["a@2", "c@1"])
        #expect(try fixture.store.remove("\(id)").count == 2)
        try fixture.expectWhole()
    }

    /// `run@01` is the step 1 of one run, not every run that has the snapshot.
    @Test(arguments: ["a@01", "a@+1"]) func removeByAnOddlyWrittenStep(_ ref: String) throws {
        let fixture = try StoreFixture()
        try fixture.ingest(bytes(1), run: "a", step: 1)
        try fixture.ingest(bytes(1), run: "b", step: 1)
        _ = try? fixture.store.remove(ref)
        #expect(try fixture.store.history().contains { $0.run == "b" }, "rm \(ref) removed b@1 too")
    }

    @Test func imagesFollowTheHead() throws {
        let fixture = try StoreFixture()
        let images = { try fixture.store.history(of: "r").map(\.hasImage) }
        try fixture.ingest(bytes(1), run: "r", step: 1)
        #expect(try images() == [true])
        try fixture.ingest(bytes(2), run: "r", step: 2)
        #expect(try images() == [false, true])
        // An older step is no head, and takes the head's image from nobody.
        let older = try fixture.ingest(bytes(3), run: "r", step: 0)
        #expect(older.image == nil)
        #expect(try images() == [false, false, true])
        let path = try fixture.store.imageDirectory(of: "r@1")
        #expect(try FileTree.contents(of: path) == ["model.safetensors": Data(bytes(1))])
        #expect(try images() == [false, true, true])
        let count = { try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images").count }
        #expect(try count() == 2)
        try fixture.expectWhole()
        // One snapshot, head of two runs.
        try fixture.ingest(bytes(2), run: "other", step: 1)
        try fixture.ingest(bytes(4), run: "r", step: 3)
        #expect(try fixture.store.history(of: "other").map(\.hasImage) == [true])
        try fixture.expectWhole()
    }

    @Test func noImage() throws {
        let fixture = try StoreFixture()
        let result = try fixture.ingest(bytes(1), run: "r", step: 1) { $0.makesImage = false }
        #expect(result.image == nil)
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images") == [])
        #expect(try fixture.store.stats().imageBytes < 16 << 10)
        let path = try fixture.store.imageDirectory(of: "r")
        #expect(try FileTree.contents(of: path) == ["model.safetensors": Data(bytes(1))])
    }

    @Test func seriesMakesOneImage() throws {
        let fixture = try StoreFixture()
        for step in [100, 20, 3] { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        let results = try fixture.ingest(fixture.path("out"))
        #expect(results.map(\.step) == [3, 20, 100])
        #expect(results.map { $0.image != nil } == [false, false, true])
        #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images").count == 1)
        for step in [3, 20, 100] {
            #expect(try fixture.export("out@\(step)") == FileTree.contents(of: fixture.path("out/checkpoint-\(step)")))
        }
        try fixture.expectWhole()
    }

    @Test func droppedImageStaysReadable() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture.model(seed: 1)
        try fixture.ingest(model.bytes, run: "r", step: 1)
        let snapshot = try fixture.store.snapshot("r@1")
        let view = try fixture.store.view(of: "layers.1.weight", in: snapshot)
        try fixture.ingest(bytes(2), run: "r", step: 2)
        #expect(try fixture.store.history(of: "r").map(\.hasImage) == [false, true])
        try view.withRowBlock(0) { #expect(Array($0) == model.tensors[2].bytes) }
        // Asked for again, from blocks.
        let again = try fixture.store.view(of: "layers.1.weight", in: snapshot)
        try again.withRowBlock(0) { #expect(Array($0) == model.tensors[2].bytes) }
    }

    /// A reader that was given a snapshot reads it to the end, whatever becomes of its image.
    @Test func contentsOutliveTheirImage() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture.model(seed: 1)
        try fixture.ingest(model.bytes, run: "r", step: 1)
        let contents = try fixture.store.contents("r@1")
        let reader = try contents.makeReader()
        let entry = try #require(contents.tensors.first { $0.name == "layers.1.weight" })
        try fixture.ingest(bytes(2), run: "r", step: 2)
        try reader.withBytes(of: entry, 0..<entry.byteCount) { #expect(Array($0) == model.tensors[2].bytes) }
        try contents.makeReader().withBytes(of: entry, 0..<entry.byteCount) { #expect(Array($0) == model.tensors[2].bytes) }
    }

    @Test func unchangedSourcesAreNotRead() throws {
        let fixture = try StoreFixture()
        for step in 1...5 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        letFilesSettle()
        #expect(try fixture.ingest(fixture.path("out")).allSatisfy { $0.outcome == .stored })
        let state = try fixture.state()
        let again = try fixture.ingest(fixture.path("out"))
        #expect(again.allSatisfy { $0.outcome == .unchanged })
        #expect(again.map(\.step) == [1, 2, 3, 4, 5])
        #expect(try fixture.state() == state)
        // One new checkpoint: only that one is read.
        try FakeTrainer.write(step: 6, seed: 6, to: fixture.path("out"))
        let more = try fixture.ingest(fixture.path("out"))
        #expect(more.map(\.outcome) == Array(repeating: .unchanged, count: 5) + [.stored])
        #expect(try fixture.ingest(fixture.path("out")) { $0.rehashes = true }.allSatisfy { $0.outcome == .known })
        // Once removed, unchanged is not enough.
        try fixture.store.remove("out@3")
        #expect(try fixture.ingest(fixture.path("out")).map(\.outcome)[2] == .stored)
        try fixture.expectWhole()
    }

    @Test func changedBytesUnderTheOldTimesAreSeen() throws {
        let fixture = try StoreFixture()
        let path = fixture.path("model.safetensors")
        var bytes = bytes(1)
        try FileTree.write(bytes, to: path)
        letFilesSettle()
        #expect(try fixture.ingest(path, run: "r", step: 1)[0].outcome == .stored)
        let before = try FileManager.default.attributesOfItem(atPath: path)
        bytes[bytes.count - 1] ^= 1
        let handle = try #require(FileHandle(forWritingAtPath: path))
        try handle.seek(toOffset: UInt64(bytes.count - 1))
        try handle.write(contentsOf: [bytes[bytes.count - 1]])
        try handle.close()
        try FileManager.default.setAttributes([.modificationDate: before[.modificationDate]!], ofItemAtPath: path)
        letFilesSettle()
        try fixture.expectRefusal(.conflict) { try fixture.ingest(path, run: "r", step: 1) }
        #expect(try fixture.ingest(path, run: "r", step: 1) { $0.replaces = true }[0].outcome == .stored)
        #expect(try fixture.export("r") == ["model.safetensors": Data(bytes)])
    }

    @Test func unchangedSourcesUnderOtherOptionsAreTakenAgain() throws {
        let fixture = try StoreFixture()
        let checkpoint = try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        letFilesSettle()
        try fixture.ingest(checkpoint) { $0.keepsOptimizer = false }
        let entry = try fixture.store.history()[0]
        #expect(entry.leftOutFiles == 1 && entry.leftOutBytes == 3002)
        #expect(try fixture.export("out@1")["optimizer.pt"] == nil)
        #expect(try fixture.ingest(checkpoint) { $0.keepsOptimizer = false }[0].outcome == .unchanged)
        #expect(try fixture.ingest(checkpoint, run: "other")[0].outcome == .stored)
        #expect(try fixture.store.history(of: "other")[0].leftOutFiles == 0)
        #expect(try fixture.export("other@1") == FileTree.contents(of: checkpoint))
        try fixture.expectWhole()
    }

    @Test func pinAndTagOnUnchangedSources() throws {
        let fixture = try StoreFixture()
        for step in 1...3 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        letFilesSettle()
        try fixture.ingest(fixture.path("out"))
        try fixture.ingest(fixture.path("out")) {
            $0.pin = true
            $0.tags = ["last"]
        }
        #expect(try fixture.store.history().allSatisfy { $0.isPinned && $0.hasImage })
        #expect(try fixture.store.snapshot("last").id == fixture.store.snapshot("out").id)
        try fixture.expectWhole()
    }

    @Test func parents() throws {
        let fixture = try StoreFixture()
        let base = try fixture.ingest(bytes(1), run: "base", step: 1).id
        try fixture.ingest(bytes(2), run: "r", step: 1) { $0.parent = "base" }
        #expect(try fixture.store.history(of: "r")[0].parent == base)
        try fixture.expectRefusal(.noSuchRef) { try fixture.ingest(bytes(3), run: "r", step: 2) { $0.parent = "none" } }
    }
}
