import CheckpointStore
import Foundation
import TestSupport
import Testing

/// Checkpoints taken in from memory, and from the pieces of several processes.
@Suite struct IngestFilesTests {
    /// Bytes that stay where they are while `body` runs, cut into pieces of many lengths.
    private func withFile<R>(_ path: String, _ bytes: [UInt8], cuts: [Int] = [], _ body: (CheckpointFile) throws -> R) rethrows -> R {
        try bytes.withUnsafeBytes { all in
            let ends = cuts.filter { $0 < all.count } + [all.count]
            let pieces = zip([0] + ends, ends).map { UnsafeRawBufferPointer(rebasing: all[$0..<$1]) }
            return try body(CheckpointFile(path, pieces: pieces))
        }
    }

    @Test func memoryIsTheSameSnapshotAsItsFile() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture.model(seed: 1).bytes
        let onDisk = try fixture.ingest(model, run: "disk")
        for cuts in [[], [0, 0, 8, 8, 9, 1000, 1001, 20_000]] {
            let result = try withFile("model.safetensors", model, cuts: cuts) { file in
                try fixture.store.ingest([file], run: "memory", step: UInt64(cuts.count))
            }
            #expect(result.id == onDisk.id)
            #expect(result.outcome == .known)
        }
        #expect(try fixture.export("memory") == ["model.safetensors": Data(model)])
        let image = try fixture.store.imageDirectory(of: "memory")
        #expect(try FileTree.contents(of: image) == ["model.safetensors": Data(model)])
        #expect(try fixture.store.history(of: "memory").map(\.source) == ["memory", "memory"])
        try fixture.expectWhole()
    }

    @Test func filesOnDiskStandBesideThoseInMemory() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture.model(seed: 2).bytes
        try FileTree.write("{\"a\":1}", to: fixture.path("settings/one.json"))
        let result = try withFile("model.safetensors", model) { file in
            try withFile("notes/empty.txt", []) { empty in
                var options = IngestOptions()
                options.metrics = ["loss": 0.5]
                options.tags = ["best"]
                return try fixture.store.ingest(
                    [file, empty, CheckpointFile("config.json", at: fixture.path("settings/one.json"))], run: "r", step: 3, options: options)
            }
        }
        #expect(result.outcome == .stored)
        #expect(
            try fixture.export("best") == ["model.safetensors": Data(model), "notes/empty.txt": Data(), "config.json": Data("{\"a\":1}".utf8)])
        #expect(try fixture.store.metrics(of: "r@3") == ["loss": 0.5])
        #expect(try FileTree.contents(of: fixture.store.imageDirectory(of: "r")).count == 3)
        try fixture.expectWhole()
    }

    @Test func deltasAreMadeAgainstTheStepBefore() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        let history = (0..<3).map { _ in training.next() }
        for (step, bytes) in history.enumerated() {
            _ = try withFile("model.safetensors", bytes) { try fixture.store.ingest([$0], run: "r", step: UInt64(step)) }
        }
        let fromFiles = try StoreFixture()
        for (step, bytes) in history.enumerated() { try fromFiles.ingest(bytes, step: UInt64(step)) }
        #expect(try fixture.store.stats().packedBytes == fromFiles.store.stats().packedBytes)
        try fixture.expectWhole()
    }

    @Test(arguments: ["../model.safetensors", "/model.safetensors", "", "a//model.safetensors", "a/./model.safetensors"])
    func unsafeNamesAreRefused(_ path: String) throws {
        let fixture = try StoreFixture()
        let before = try fixture.state()
        try withFile(path, SafetensorsFixture.model(seed: 1).bytes) { file in
            #expect { try fixture.store.ingest([file], run: "r", step: 0) } throws: { ($0 as? StoreError)?.code == .badInput }
        }
        #expect(try fixture.state() == before)
    }

    @Test func whatIsNoCheckpointIsRefused() throws {
        let fixture = try StoreFixture()
        let before = try fixture.state()
        let model = SafetensorsFixture.model(seed: 1).bytes
        func expectRefusal(_ files: [(String, [UInt8])], _ code: StoreError.Code, _ change: (inout IngestOptions) -> Void = { _ in }) throws {
            var options = IngestOptions()
            change(&options)
            // The arrays live to the end of the function.
            let pieces = files.map { $0.1 }.map { bytes in
                let room = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
                room.copyBytes(from: bytes)
                return room
            }
            defer { for piece in pieces { piece.deallocate() } }
            let list = zip(files, pieces).map { CheckpointFile($0.0, pieces: [UnsafeRawBufferPointer($1)]) }
            #expect(performing: { try fixture.store.ingest(list, run: "r", step: 0, options: options) }, throws: { error in
                (error as? StoreError)?.code == code
            })
        }
        try expectRefusal([], .badInput)
        try expectRefusal([("config.json", [0x7B, 0x7D])], .badInput)
        try expectRefusal([("model.safetensors", Array(model.dropLast()))], .incomplete)
        try expectRefusal([("model.safetensors", model), ("model.safetensors", model)], .badInput)
        try expectRefusal([("model.safetensors", model), ("model.safetensors/a", model)], .badInput)
        try expectRefusal([("model-00001-of-00002.safetensors", model)], .incomplete)
        try expectRefusal([("model.safetensors", model)], .badInput) { $0.metrics = ["loss": .nan] }
        try expectRefusal([("model.safetensors", model)], .badInput) { $0.metrics = ["a loss": 1] }
        #expect(try fixture.state() == before)
        try fixture.expectWhole()
    }

    @Test func piecesBecomeOneSnapshot() throws {
        let fixture = try StoreFixture()
        let models = (1...3).map { SafetensorsFixture.model(seed: UInt64($0)).bytes }
        func name(_ rank: Int) -> String { "model-0000\(rank)-of-00003.safetensors" }
        // What all have, they have alike.
        for rank in 2...3 {
            try withFile(name(rank), models[rank - 1]) { file in
                try withFile("config.json", Array("{}".utf8)) { config in
                    _ = try fixture.store.ingest([file, config], run: "r.rank-\(rank)", step: 5, isPiece: true)
                }
            }
        }
        try withFile(name(1), models[0]) { file in
            #expect { try fixture.store.ingest([file], run: "r", step: 5, joining: ["r.rank-2@5"]) } throws: {
                ($0 as? StoreError)?.code == .incomplete
            }
            #expect { try fixture.store.ingest([file], run: "r", step: 5, joining: ["r.rank-2@5", "r.rank-4@5"]) } throws: {
                ($0 as? StoreError)?.code == .noSuchRef
            }
            try withFile("config.json", Array("{ }".utf8)) { config in
                #expect { try fixture.store.ingest([file, config], run: "r", step: 5, joining: ["r.rank-2@5", "r.rank-3@5"]) } throws: {
                    ($0 as? StoreError)?.code == .conflict
                }
            }
            let result = try fixture.store.ingest([file], run: "r", step: 5, joining: ["r.rank-2@5", "r.rank-3@5"])
            #expect(result.outcome == .stored)
            #expect(result.image != nil)
        }
        #expect(try fixture.store.history().map(\.run) == ["r"])
        let expected = ["config.json": Data("{}".utf8)].merging((1...3).map { (name($0), Data(models[$0 - 1])) }) { $1 }
        #expect(try fixture.export("r") == expected)
        #expect(try FileTree.contents(of: fixture.store.imageDirectory(of: "r")) == expected)
        try fixture.expectWhole()
        // It is the snapshot that its files on disk are.
        for (path, bytes) in expected { try FileTree.write([UInt8](bytes), to: fixture.path("whole/\(path)")) }
        #expect(try fixture.ingest(fixture.path("whole"), run: "disk", step: 1)[0].outcome == .known)
        // And everything goes with it.
        _ = try fixture.store.remove("r")
        _ = try fixture.store.remove("disk")
        #expect(try fixture.store.stats().blocks == 0)
        try fixture.expectWhole()
    }
}
