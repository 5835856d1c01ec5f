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

/// Bad input is refused in one line that names it, and the store stays as it was.
@Suite struct RefusalTests {
    private func fixture() throws -> StoreFixture {
        let fixture = try StoreFixture()
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
        return fixture
    }

    @Test func truncatedSafetensors() throws {
        let fixture = try fixture()
        let bytes = SafetensorsFixture.model(seed: 2).bytes
        for count in [0, 5, 8, 50, bytes.count - 1, bytes.count / 2] {
            try fixture.expectRefusal(.incomplete, saying: "model.safetensors", "byte \(count)", "missing") {
                try fixture.ingest(Array(bytes[..<count]), run: "r", step: 2)
            }
        }
        try fixture.expectRefusal(.badInput, saying: "model.safetensors", "1 trailing byte") {
            try fixture.ingest(bytes + [0], run: "r", step: 2)
        }
    }

    @Test func wrongHeader() throws {
        let fixture = try fixture()
        var model = SafetensorsFixture.model(seed: 2)
        model.tensors[3].shape = [7]
        try fixture.expectRefusal(.badInput, saying: "layers.1.norm", "byte", "model.safetensors") {
            try fixture.ingest(model.bytes, run: "r", step: 2)
        }
        try fixture.expectRefusal(.badInput, saying: "model.safetensors") {
            try fixture.ingest([255, 255, 255, 255, 255, 255, 255, 127, 0], run: "r", step: 2)
        }
    }

    @Test func truncatedInsideACheckpointDirectory() throws {
        let fixture = try fixture()
        let checkpoint = try FakeTrainer.write(step: 3, seed: 3, to: fixture.path("out"))
        let bytes = try FileTree.bytes(checkpoint + "/model.safetensors")
        try FileTree.write(Array(bytes.dropLast(100)), to: checkpoint + "/model.safetensors")
        try fixture.expectRefusal(.incomplete, saying: "checkpoint-3/model.safetensors", "100 bytes") {
            try fixture.ingest(fixture.path("out"))
        }
    }

    private func sharded(_ fixture: StoreFixture, _ map: String) throws -> String {
        let directory = fixture.path("model")
        try FileTree.write(SafetensorsFixture.model(seed: 2).bytes, to: directory + "/a.safetensors")
        try FileTree.write("{\"weight_map\": {\(map)}}", to: directory + "/model.safetensors.index.json")
        return directory
    }

    @Test func missingShard() throws {
        let fixture = try fixture()
        let model = try sharded(fixture, "\"layers.0.norm\": \"a.safetensors\", \"x\": \"b.safetensors\"")
        try fixture.expectRefusal(.incomplete, saying: "b.safetensors", "model.safetensors.index.json") {
            try fixture.ingest(model)
        }
    }

    @Test func indexNamesAMissingTensor() throws {
        let fixture = try fixture()
        let model = try sharded(fixture, "\"layers.0.norm\": \"a.safetensors\", \"x.y\": \"a.safetensors\"")
        try fixture.expectRefusal(.incomplete, saying: "x.y", "a.safetensors", "index.json") { try fixture.ingest(model) }
    }

    @Test(arguments: ["../a.safetensors", "/etc/passwd", "", "x/../../a.safetensors", "a\\\\b.safetensors", "./a.safetensors", "a\\u0000b"])
    func unsafeNamesInAnIndex(_ name: String) throws {
        let fixture = try fixture()
        let model = try sharded(fixture, "\"layers.0.norm\": \"\(name)\"")
        try fixture.expectRefusal(.badInput, saying: "model.safetensors.index.json") { try fixture.ingest(model) }
    }

    @Test(arguments: ["", "[]", "{", "{\"weight_map\": 3}", "{\"weight_map\": {\"a\": 1}}", "{}"])
    func brokenIndex(_ text: String) throws {
        let fixture = try fixture()
        let model = try sharded(fixture, "")
        try FileTree.write(text, to: model + "/model.safetensors.index.json")
        try fixture.expectRefusal(.badInput, saying: "model.safetensors.index.json") { try fixture.ingest(model) }
    }

    @Test(arguments: ["archive/../../x", "/archive/data/0", "archive/data/../0"])
    func unsafeNamesInAZip(_ name: String) throws {
        let fixture = try fixture()
        let bytes = StoredZip.bytes(names: ["archive/data.pkl", name], contents: [[0x80, 2, 0x7d, 0x2e], [1, 2, 3]])
        try fixture.expectRefusal(.badInput, saying: "model.pt") { try fixture.ingest(bytes, as: "model.pt", run: "r", step: 2) }
    }

    @Test func truncatedPyTorchFiles() throws {
        let fixture = try fixture()
        let bytes = try GoldenFiles.bytes("adamw.pt")
        for count in [3, 4, 100, bytes.count / 2, bytes.count - 1, bytes.count - 22] {
            try fixture.expectRefusal(.incomplete, saying: "model.pt", "byte") {
                try fixture.ingest(Array(bytes[..<count]), as: "model.pt", run: "r", step: 2)
            }
        }
    }

    @Test func storageShorterThanItsPickleSays() throws {
        let fixture = try fixture()
        try fixture.expectRefusal(.badInput, saying: "model.pt", "byte", "44 bytes") {
            try fixture.ingest(GoldenFiles.bytes("short-storage.pt"), as: "model.pt", run: "r", step: 2)
        }
    }

    /// A flipped bit anywhere is refused or kept byte for byte: it never crashes and never comes back changed.
    @Test func flippedBitsInPyTorchFiles() throws {
        let fixture = try fixture()
        let original = try GoldenFiles.bytes("views.pt")
        var random = SeededBytes(11)
        for step in 2..<120 {
            var bytes = original
            let place = Int(random.next() % UInt64(bytes.count))
            bytes[place] ^= 1 << UInt8(random.next() % 8)
            do {
                try fixture.ingest(bytes, as: "model.pt", run: "r", step: UInt64(step)) { $0.makesImage = false }
                #expect(try fixture.export("r@\(step)") == ["model.pt": Data(bytes)])
            } catch let error as StoreError {
                #expect(error.code == .badInput || error.code == .incomplete, "byte \(place): \(error)")
                #expect(error.reason.contains("model.pt"))
            }
        }
        try fixture.expectWhole()
    }

    @Test func directoriesWithoutWeights() throws {
        let fixture = try fixture()
        try FileTree.write("{}", to: fixture.path("out/checkpoint-5/trainer_state.json"))
        try fixture.expectRefusal(.incomplete, saying: "checkpoint-5", "no model weights") { try fixture.ingest(fixture.path("out")) }
        try FileTree.write("{}", to: fixture.path("plain/config.json"))
        try fixture.expectRefusal(.badInput, saying: "plain") { try fixture.ingest(fixture.path("plain")) }
        try FileTree.makeDirectory(fixture.path("none"))
        try fixture.expectRefusal(.badInput, saying: "none") { try fixture.ingest(fixture.path("none")) }
        try fixture.expectRefusal(.badInput, saying: "nowhere") { try fixture.ingest(fixture.path("nowhere")) }
        try FileTree.write("x", to: fixture.path("notes.txt"))
        try fixture.expectRefusal(.badInput, saying: "notes.txt") { try fixture.ingest(fixture.path("notes.txt")) }
    }

    @Test func newestCheckpointWithoutItsTrainerState() throws {
        let fixture = try fixture()
        try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        let newest = try FakeTrainer.write(step: 2, seed: 2, to: fixture.path("out"))
        try FileManager.default.removeItem(atPath: newest + "/trainer_state.json")
        try fixture.expectRefusal(.incomplete, saying: "checkpoint-2", "trainer_state.json") { try fixture.ingest(newest) }
        // With a step of its own it is one checkpoint by itself; by its directory it is the series.
        #expect(throws: StoreError.self) { try fixture.ingest(fixture.path("out")) }
    }

    @Test func fifoAndDanglingLink() throws {
        let fixture = try fixture()
        let checkpoint = try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        #expect(mkfifo(checkpoint + "/pipe.safetensors", 0o600) == 0)
        try fixture.expectRefusal(.badInput, saying: "pipe.safetensors") { try fixture.ingest(checkpoint) }
        unlink(checkpoint + "/pipe.safetensors")
        try FileManager.default.createSymbolicLink(atPath: checkpoint + "/link", withDestinationPath: "gone")
        try fixture.expectRefusal(.badInput, saying: "checkpoint-1/link") { try fixture.ingest(checkpoint) }
        unlink(checkpoint + "/link")
        try FileManager.default.createSymbolicLink(atPath: checkpoint + "/loop", withDestinationPath: ".")
        try fixture.expectRefusal(.badInput, saying: "loop") { try fixture.ingest(checkpoint) }
        unlink(checkpoint + "/loop")
        #expect(mkfifo(fixture.path("alone.safetensors"), 0o600) == 0)
        try fixture.expectRefusal(.badInput, saying: "alone.safetensors") { try fixture.ingest(fixture.path("alone.safetensors")) }
        // A link to a file is that file.
        try FileManager.default.createSymbolicLink(atPath: checkpoint + "/again.json", withDestinationPath: "config.json")
        try fixture.ingest(checkpoint)
        #expect(try fixture.export("out@1")["again.json"] == fixture.export("out@1")["config.json"])
    }

    @Test func nameThatIsNotUTF8() throws {
        let fixture = try fixture()
        let checkpoint = try FakeTrainer.write(step: 1, seed: 1, to: fixture.path("out"))
        let name = Array((checkpoint + "/b").utf8) + [0xff, 0xfe, 0]
        let descriptor = name.map { CChar(bitPattern: $0) }.withUnsafeBufferPointer { open($0.baseAddress!, O_CREAT | O_WRONLY, 0o600) }
        // Some file systems refuse such names themselves.
        guard descriptor >= 0 else { return }
        close(descriptor)
        try fixture.expectRefusal(.badInput, saying: "UTF-8", "checkpoint-1") { try fixture.ingest(checkpoint) }
    }

    /// The file is changed from inside the ingest, after its header was parsed.
    @Test(arguments: [false, true]) func changedWhileItIsRead(_ isCut: Bool) throws {
        let fixture = try fixture()
        var source = SeededBytes(1)
        let path = fixture.path("big.safetensors")
        try FileTree.write(
            SafetensorsFixture([.init("t", .bf16, [40, 262_144], source.bfloat16(count: 40 * 262_144))]).bytes, to: path)
        letFilesSettle()
        let monitor = Monitor(progress: { progress in
            guard progress.doneBytes > 0, let file = FileHandle(forWritingAtPath: path) else { return }
            if isCut {
                try? file.truncate(atOffset: progress.totalBytes - 1000)
            } else {
                _ = try? file.seek(toOffset: progress.totalBytes - 1)
                try? file.write(contentsOf: [7])
            }
            try? file.close()
        })
        try fixture.expectRefusal(.incomplete, saying: "big.safetensors") {
            var options = IngestOptions()
            options.run = "r"
            options.step = 2
            try fixture.store.ingest(path, options: options, monitor: monitor)
        }
    }

    @Test func cancelledIngestLeavesNothing() throws {
        let fixture = try fixture()
        var source = SeededBytes(1)
        let path = fixture.path("big.safetensors")
        try FileTree.write(SafetensorsFixture([.init("t", .u8, [12 << 20], source.bytes(12 << 20))]).bytes, to: path)
        try fixture.expectRefusal(.interrupted) {
            try fixture.store.ingest(path, monitor: Monitor(isCancelled: { true }))
        }
    }

    /// A store inside the model's own directory is no part of the model.
    @Test func storeInsideTheModelDirectory() throws {
        let directory = try TemporaryDirectory()
        let model = SafetensorsFixture.model(seed: 1)
        try FileTree.write(model.bytes, to: directory.path + "/model.safetensors")
        try FileTree.write("{}", to: directory.path + "/config.json")
        try Store.create(at: directory.path + "/.ckpt")
        let store = try Store.open(directory.path + "/.ckpt")
        var options = IngestOptions()
        options.run = "r"
        if let refusal = try storeError({ try store.ingest(directory.path, options: options) }) {
            #expect(refusal.code == .badInput && refusal.description.contains(".ckpt"), "\(refusal)")
        } else {
            let files = try store.snapshot("r").files.map(\.path)
            #expect(files.sorted() == ["config.json", "model.safetensors"])
        }
    }

    @Test func storesThatAreNone() throws {
        let directory = try TemporaryDirectory()
        #expect { try Store.open(directory.path) } throws: { ($0 as? StoreError)?.code == .noStore }
        #expect { try Store.open(directory.path + "/nowhere") } throws: { ($0 as? StoreError)?.code == .noStore }
        #expect { try Store.verify(directory.path, depth: .quick) } throws: { ($0 as? StoreError)?.code == .noStore }
        try Store.create(at: directory.path)
        #expect { try Store.create(at: directory.path) } throws: { ($0 as? StoreError)?.code == .conflict }
    }
}

/// A zip archive of uncompressed entries.
enum StoredZip {
    static func bytes(names: [String], contents: [[UInt8]]) -> [UInt8] {
        func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
        var bytes: [UInt8] = []
        var directory: [UInt8] = []
        for (name, data) in zip(names, contents) {
            let size = le(UInt32(data.count))
            let common = le(UInt16(0)) + le(UInt16(0)) + le(UInt32(0)) + le(UInt32(0)) + size + size + le(UInt16(name.utf8.count))
            directory += le(UInt32(0x0201_4b50)) + le(UInt16(20)) + le(UInt16(20)) + common
            directory += [UInt8](repeating: 0, count: 12) + le(UInt32(bytes.count)) + Array(name.utf8)
            bytes += le(UInt32(0x0403_4b50)) + le(UInt16(20)) + common + le(UInt16(0)) + Array(name.utf8) + data
        }
        let start = UInt32(bytes.count)
        let count = le(UInt16(names.count))
        return bytes + directory + le(UInt32(0x0605_4b50)) + le(UInt32(0)) + count + count + le(UInt32(directory.count)) + le(start) + le(UInt16(0))
    }
}
