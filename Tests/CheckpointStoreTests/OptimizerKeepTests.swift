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

/// Optimizer states of old steps go; everything else, and what is tagged, pinned or recent anywhere, stays.
@Suite struct OptimizerKeepTests {
    private static func series(_ fixture: StoreFixture, _ steps: ClosedRange<Int>) throws -> String {
        let source = fixture.path("out")
        for step in steps { try FakeTrainer.write(step: step, seed: UInt64(step), to: source) }
        return source
    }

    private static func dropped(_ fixture: StoreFixture, of run: String = "out") throws -> [UInt64] {
        try fixture.store.history(of: run).filter { $0.dropped == [.optimizer] }.map(\.step)
    }

    /// Fails unless the export of `ref` is the checkpoint, whole or without its optimizer.
    private static func expectExport(
        _ fixture: StoreFixture, _ step: UInt64, whole: Bool, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        var original = try FileTree.contents(of: fixture.path("out/checkpoint-\(step)"))
        if !whole { original["optimizer.pt"] = nil }
        #expect(FileTree.differences(try fixture.export("out@\(step)"), original) == [], sourceLocation: sourceLocation)
    }

    @Test func onlyTheLastStepsKeepIt() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...5)
        let results = try fixture.ingest(source) { $0.optimizerKeep = 2 }
        #expect(results.map(\.droppedOptimizers) == [[], [], ["out@1"], ["out@2"], ["out@3"]])
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2, 3])
        for step: UInt64 in 1...5 { try OptimizerKeepTests.expectExport(fixture, step, whole: step > 3) }
        try fixture.expectWhole()
        // As many blocks as a store that never had them.
        let other = try StoreFixture()
        try other.ingest(source, step: nil) { $0.keepsOptimizer = false }
        // Two states of one block each, and their skeletons are all they are.
        #expect(try fixture.store.stats().blocks == other.store.stats().blocks + 2)
        #expect(try fixture.store.snapshot("out@1").dropped.map(\.kind) == [.optimizer])
        // Sums are those of what was ingested.
        #expect(try fixture.store.history()[0].rawBytes == results[0].rawBytes)
    }

    @Test func unchangedSourcesStayUnchanged() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...3)
        letFilesSettle()
        try fixture.ingest(source) { $0.optimizerKeep = 1 }
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2])
        for keep in [1, nil, 3] {
            let again = try fixture.ingest(source) { $0.optimizerKeep = keep }
            #expect(again.allSatisfy { $0.outcome == .unchanged && $0.droppedOptimizers.isEmpty })
        }
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2])
    }

    /// A store that grew without the option is thinned by the next ingest with it, though nothing is new.
    @Test func laterOnWithNothingNew() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...3)
        letFilesSettle()
        try fixture.ingest(source)
        let again = try fixture.ingest(source) { $0.optimizerKeep = 1 }
        #expect(again.allSatisfy { $0.outcome == .unchanged })
        #expect(again.flatMap(\.droppedOptimizers) == ["out@1", "out@2"])
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2])
        try fixture.expectWhole()
    }

    @Test func taggedPinnedAndRecentElsewhere() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...6)
        for step in 1...3 { try fixture.ingest("\(source)/checkpoint-\(step)") }
        try fixture.store.tag("out@1", as: "best")
        try fixture.store.pin("out@2")
        // The same snapshot, head of another run.
        try fixture.ingest("\(source)/checkpoint-3", run: "branch", step: 1)
        for step in 4...6 { try fixture.ingest("\(source)/checkpoint-\(step)") { $0.optimizerKeep = 1 } }
        #expect(try OptimizerKeepTests.dropped(fixture) == [4, 5])
        try fixture.expectWhole()
        // Free again, they go with the next one.
        try fixture.store.removeTag("best")
        try fixture.store.unpin("out@2")
        try FakeTrainer.write(step: 7, seed: 7, to: source)
        let result = try fixture.ingest("\(source)/checkpoint-7") { $0.optimizerKeep = 1 }
        #expect(result[0].droppedOptimizers == ["out@1", "out@2", "out@6"])
        try fixture.expectWhole()
    }

    /// An optimizer state that two snapshots share goes with the second.
    @Test func sharedState() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...3)
        let state = try FileTree.bytes("\(source)/checkpoint-1/optimizer.pt")
        try FileTree.write(state, to: "\(source)/checkpoint-2/optimizer.pt")
        try fixture.ingest("\(source)/checkpoint-1")
        try fixture.ingest("\(source)/checkpoint-2") { $0.optimizerKeep = 1 }
        #expect(try OptimizerKeepTests.dropped(fixture) == [1])
        try OptimizerKeepTests.expectExport(fixture, 2, whole: true)
        try fixture.expectWhole()
        try fixture.ingest("\(source)/checkpoint-3") { $0.optimizerKeep = 1 }
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2])
        try fixture.expectWhole()
    }

    /// Images hold the files that a snapshot has: fewer after a drop, all of them when the part is back.
    @Test func imagesFollow() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...2)
        try fixture.ingest("\(source)/checkpoint-1")
        let image = try fixture.store.imageDirectory(of: "out@1")
        #expect(FileManager.default.fileExists(atPath: image + "/optimizer.pt"))
        try fixture.ingest("\(source)/checkpoint-2") { $0.optimizerKeep = 1 }
        #expect(!FileManager.default.fileExists(atPath: image))
        // Pinned later: what is left has an image.
        try fixture.store.pin("out@1")
        #expect(!FileManager.default.fileExists(atPath: image + "/optimizer.pt"))
        #expect(FileManager.default.fileExists(atPath: image + "/model.safetensors"))
        try fixture.expectWhole()
        // The same bytes come again: the part is back, in the whole image too.
        let back = try fixture.ingest("\(source)/checkpoint-1") { $0.rehashes = true }
        #expect(back[0].outcome == .known)
        #expect(try OptimizerKeepTests.dropped(fixture) == [])
        #expect(!FileManager.default.fileExists(atPath: image + "/optimizer.pt"))
        #expect(try fixture.store.imageDirectory(of: "out@1") == image)
        #expect(FileManager.default.fileExists(atPath: image + "/optimizer.pt"))
        try OptimizerKeepTests.expectExport(fixture, 1, whole: true)
        try fixture.expectWhole()
    }

    /// An image that comes with an ingest has no optimizer state. What it leaves out is read from the blocks, and added when the directory is asked for:
    /// the files that were there stay the same files.
    @Test func imagesLeaveItOut() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...1)
        try FileTree.write(GoldenFiles.bytes("adamw.pt"), to: "\(source)/checkpoint-1/optimizer.pt")
        let image = try #require(try fixture.ingest("\(source)/checkpoint-1")[0].image)
        #expect(!FileManager.default.fileExists(atPath: image + "/optimizer.pt"))
        try fixture.expectWhole()
        let contents = try fixture.store.contents("out@1")
        let outside = try CheckpointContents(path: "\(source)/checkpoint-1")
        #expect(contents.tensors.contains { $0.part == .optimizer } && !contents.isMapped)
        #expect(contents.keeping { $0.part == .weights }.isMapped)
        for (tensor, original) in zip(contents.tensors, outside.tensors) {
            #expect(tensor.name == original.name)
            func bytes(_ contents: CheckpointContents, _ tensor: TensorEntry) throws -> [UInt8] {
                var bytes = [UInt8](repeating: 0, count: Int(tensor.byteCount))
                try bytes.withUnsafeMutableBytes { try contents.read(tensor, into: $0) }
                let whole = try contents.makeReader().withBytes(of: tensor, 0..<tensor.byteCount) { Array($0) }
                #expect(bytes == whole)
                return bytes
            }
            #expect(try bytes(contents, tensor) == bytes(outside, original), "\(tensor.name)")
        }
        func inode(_ file: String) throws -> Int? {
            try FileManager.default.attributesOfItem(atPath: image + "/" + file)[.systemFileNumber] as? Int
        }
        let before = try inode("model.safetensors")
        #expect(try fixture.store.imageDirectory(of: "out") == image)
        #expect(try inode("model.safetensors") == before)
        #expect(FileTree.differences(try FileTree.contents(of: image), try FileTree.contents(of: "\(source)/checkpoint-1")) == [])
        #expect(try fixture.store.contents("out@1").isMapped)
        try fixture.expectWhole()
        // Left out again it is as before; a file of the weights is not to be missing.
        try FileManager.default.removeItem(atPath: image + "/optimizer.pt")
        try fixture.expectWhole()
        try FileManager.default.removeItem(atPath: image + "/model.safetensors")
        #expect(try Store.verify(fixture.store.path, depth: .full).problems.count == 1)
    }

    /// Removing a snapshot whose part is gone releases the rest.
    @Test func removedAfterwards() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...3)
        try fixture.ingest(source) { $0.optimizerKeep = 1 }
        for step in 1...3 { try fixture.store.remove("out@\(step)") }
        let stats = try fixture.store.stats()
        #expect(stats.blocks == 0 && stats.tensors == 0)
        try fixture.expectWhole()
    }

    /// A checkpoint that is nothing but an optimizer's state keeps it.
    @Test func nothingElse() throws {
        let fixture = try StoreFixture()
        for step: UInt64 in 1...2 {
            try fixture.ingest(SeededBytes.pickle(step), as: "optimizer.pt", run: "r", step: step) { $0.optimizerKeep = 1 }
        }
        #expect(try OptimizerKeepTests.dropped(fixture, of: "r") == [])
    }

    @Test(arguments: [0, -1]) func fewerThanOneIsRefused(_ keep: Int) throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...1)
        try fixture.expectRefusal(.badInput, saying: "--no-optimizer") {
            try fixture.ingest(source) { $0.optimizerKeep = keep }
        }
    }

    @Test func killedAtAnyMoment() throws {
        let fixture = try StoreFixture()
        let source = try OptimizerKeepTests.series(fixture, 1...4)
        let arguments = ["ingest", source, "--store", fixture.store.path, "--rehash", "--optimizer-keep"]
        let seconds = try Command.run(arguments + ["4"]).seconds
        var random = SeededBytes(UInt64(getpid()) + 4)
        for kill in 0..<(runsSlowTests ? 80 : 12) {
            // In turn the states come back and go again.
            let command = try Command.start(arguments + [kill % 2 == 0 ? "1" : "4"])
            usleep(useconds_t(Double.random(in: 0...seconds, using: &random) * 1e6))
            command.send(SIGKILL)
            command.wait()
            let report = try Store.verify(fixture.store.path, depth: .full)
            #expect(report.problems.map(\.description) == [], "kill \(kill)")
            let dropped = try OptimizerKeepTests.dropped(fixture)
            for step: UInt64 in 1...4 {
                try OptimizerKeepTests.expectExport(fixture, step, whole: !dropped.contains(step))
            }
        }
        #expect(try Command.run(arguments + ["1"]).status == 0)
        #expect(try OptimizerKeepTests.dropped(fixture) == [1, 2, 3])
        try fixture.expectWhole()
    }
}

extension SeededBytes {
    /// The start of a legacy pickle, then noise: kept whole.
    fileprivate static func pickle(_ seed: UInt64) -> [UInt8] {
        var source = SeededBytes(seed)
        return [0x80, 2] + source.bytes(500)
    }
}
