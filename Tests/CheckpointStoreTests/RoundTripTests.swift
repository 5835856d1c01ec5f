import BlockCodec
import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// What goes in comes out, byte for byte: from packed blocks, from raw ones and as an image.
@Suite struct RoundTripTests {
    /// Takes `tree` in whole, dense and raw, and compares export and image with it.
    private func expectRoundTrip(_ directory: String, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let original = try FileTree.contents(of: directory)
        #expect(!original.isEmpty)
        for packing in [Packing.dense, .raw] {
            let fixture = try StoreFixture()
            let result = try fixture.ingest(directory, run: "r", step: 1) { $0.packing = packing }[0]
            #expect(result.outcome == .stored)
            #expect(FileTree.differences(try fixture.export("r@1"), original) == [], sourceLocation: sourceLocation)
            let image = try fixture.store.imageDirectory(of: "r")
            #expect(
                FileTree.differences(try FileTree.contents(of: image), original) == [], "image while ingesting",
                sourceLocation: sourceLocation)
            try FileManager.default.removeItem(atPath: image)
            let again = try fixture.store.imageDirectory(of: "r")
            #expect(
                FileTree.differences(try FileTree.contents(of: again), original) == [], "image from blocks",
                sourceLocation: sourceLocation)
            try fixture.expectWhole(sourceLocation: sourceLocation)
        }
    }

    private func expectRoundTrip(file name: String, _ bytes: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) throws {
        let directory = try TemporaryDirectory()
        try FileTree.write(bytes, to: directory.path + "/" + name)
        let fixture = try StoreFixture()
        for (step, packing) in [Packing.dense, .raw].enumerated() {
            let options: (inout IngestOptions) -> Void = { $0.packing = packing }
            try fixture.ingest(directory.path + "/" + name, run: "\(packing)", step: UInt64(step), options)
            let export = try fixture.export("\(packing)@\(step)")
            #expect(export == [name: Data(bytes)], "\(name), \(packing)", sourceLocation: sourceLocation)
        }
        try fixture.expectWhole(sourceLocation: sourceLocation)
    }

    @Test func singleFile() throws {
        try expectRoundTrip(file: "model.safetensors", SafetensorsFixture.model(seed: 1).bytes)
    }

    @Test(arguments: GoldenFiles.good) func pyTorchFile(_ name: String) throws {
        try expectRoundTrip(file: name, GoldenFiles.bytes(name))
    }

    @Test func pyTorchBinInAModelDirectory() throws {
        let directory = try TemporaryDirectory()
        try FileTree.write(GoldenFiles.bytes("module.pt"), to: directory.path + "/pytorch_model.bin")
        try FileTree.write(GoldenFiles.bytes("adamw.pt"), to: directory.path + "/optimizer.pt")
        try FileTree.write(GoldenFiles.bytes("random-state.pt"), to: directory.path + "/rng_state.pth")
        try FileTree.write("{}", to: directory.path + "/config.json")
        try expectRoundTrip(directory.path)
    }

    @Test func legacyPickleIsKeptWholeWithANote() throws {
        let fixture = try StoreFixture()
        let bytes = try GoldenFiles.bytes("legacy.pt")
        let result = try fixture.ingest(bytes, as: "legacy.pt", run: "r", step: 1)
        #expect(result.notes.count == 1 && result.notes[0].contains("legacy.pt: kept whole"))
        #expect(try fixture.export("r@1") == ["legacy.pt": Data(bytes)])
    }

    @Test func garbageUnderAPyTorchNameIsKeptWholeWithANote() throws {
        var source = SeededBytes(7)
        let bytes = [0] + source.bytes(5000)
        let fixture = try StoreFixture()
        let result = try fixture.ingest(bytes, as: "weights.bin", run: "r", step: 1)
        #expect(result.notes.count == 1)
        #expect(try fixture.export("r@1") == ["weights.bin": Data(bytes)])
    }

    @Test func shardedModelWithIndexSidecarsAndDirectories() throws {
        let directory = try TemporaryDirectory()
        let model = SafetensorsFixture.model(seed: 2, layers: 6)
        let first = SafetensorsFixture(Array(model.tensors[..<5]), metadata: [("format", "pt")])
        let second = SafetensorsFixture(Array(model.tensors[5...]))
        try FileTree.write(first.bytes, to: directory.path + "/model-00001-of-00002.safetensors")
        try FileTree.write(second.bytes, to: directory.path + "/model-00002-of-00002.safetensors")
        let map = model.tensors.enumerated().map { index, tensor in
            "\"\(tensor.name)\": \"model-0000\(index < 5 ? 1 : 2)-of-00002.safetensors\""
        }
        try FileTree.write(
            "{\"metadata\": {}, \"weight_map\": {\(map.joined(separator: ", "))}}",
            to: directory.path + "/model.safetensors.index.json")
        try FileTree.write("", to: directory.path + "/empty.txt")
        try FileTree.write("", to: directory.path + "/nested/empty.bin")
        try FileTree.write("x", to: directory.path + "/nested/deeper/and deeper/ünï.txt")
        try FileTree.write([0x80, 2, 0x2e], to: directory.path + "/training_args.bin")
        try FileTree.write([0, 0xff, 0x0a], to: directory.path + "/.hidden")
        try FileTree.makeDirectory(directory.path + "/nothing/here")
        try FileTree.write(model.bytes, to: directory.path + "/nested/model.safetensors")
        try expectRoundTrip(directory.path)
    }

    @Test func emptyTensorsScalarsAndSmallTypes() throws {
        var source = SeededBytes(3)
        var tensors: [SafetensorsFixture.Tensor] = [
            .init("zero.first", .f32, [0], []), .init("scalar", .f32, [], [1, 2, 3, 4]),
            .init("zero.middle", .bf16, [4, 0, 7], []), .init("ones", .u8, [1, 1, 1], [9]),
            .init("f4.rows", .f4, [6, 3], source.bytes(9)), .init("f4.long", .f4, [3, 700_002], source.bytes(1_050_003)),
            .init("f6", .f6E2M3, [12, 1], source.bytes(9)), .init("f6.long", .f6E3M2, [2, 800_004], source.bytes(1_200_006)),
        ]
        for dtype in DType.allCases where dtype != .c128 && dtype.bits >= 8 {
            tensors.append(.init("t.\(dtype.name)", dtype, [3, 5], source.bytes(15 * dtype.bits / 8)))
        }
        tensors.append(.init("zero.last", .i64, [0, 2], []))
        try expectRoundTrip(file: "model.safetensors", SafetensorsFixture(tensors).bytes)
    }

    @Test func noTensorsAtAll() throws {
        try expectRoundTrip(file: "model.safetensors", SafetensorsFixture([]).bytes)
    }

    @Test func unusualHeaders() throws {
        var fixture = SafetensorsFixture.model(seed: 4)
        fixture.spacesBehind = 5
        fixture.metadata = [("format", "pt"), ("note", "\\u00e9\\n")]
        fixture.tensors[1].extra = "\"unknown\":[1,{\"a\":null}]"
        fixture.tensors[2].name = "layers.1 \\\"quoted\\\" \\ud83d\\ude00"
        // Where the data starts at no multiple of anything.
        for spaces in 0..<9 {
            fixture.spacesBehind = 5 + spaces
            try expectRoundTrip(file: "model.safetensors", fixture.bytes)
        }
        let metadata = SafetensorsFixture(fixture.tensors, metadata: [("long", String(repeating: "x", count: 600_000))])
        try expectRoundTrip(file: "model.safetensors", metadata.bytes)
    }

    @Test func leadingSpacesAreRefusedOrKept() throws {
        // The reference reader refuses them; whichever holds here, no other bytes may come back.
        var fixture = SafetensorsFixture.model(seed: 4)
        fixture.spacesBefore = 3
        let store = try StoreFixture()
        do {
            try store.ingest(fixture.bytes, run: "r", step: 1)
            #expect(try store.export("r@1") == ["model.safetensors": Data(fixture.bytes)])
        } catch let error as StoreError {
            #expect(error.code == .badInput)
        }
    }

    @Test func rowsLongerThanABlock() throws {
        var source = SeededBytes(5)
        let columns = 200_001
        let fixture = SafetensorsFixture([
            .init("small", .u8, [3], [1, 2, 3]),
            .init("wide", .bf16, [3, UInt64(columns)], source.bfloat16(count: 3 * columns)),
            .init("flat", .f32, [300_001], source.bytes(1_200_004)),
            .init("exact", .u8, [2, 262_144], source.bytes(524_288)),
        ])
        try expectRoundTrip(file: "model.safetensors", fixture.bytes)
    }

    @Test func tensorsOfManyMegabytes() throws {
        var source = SeededBytes(6)
        let fixture = SafetensorsFixture([
            .init("a", .bf16, [2048, 2048], source.bfloat16(count: 4 << 20)),
            .init("b", .f32, [1024, 1024], [UInt8](repeating: 0, count: 4 << 20)),
        ])
        try expectRoundTrip(file: "model.safetensors", fixture.bytes)
    }

    @Test func onlySomeFiles() throws {
        let fixture = try StoreFixture()
        let checkpoint = try FakeTrainer.write(step: 5, seed: 1, to: fixture.path("run"))
        let original = try FileTree.contents(of: checkpoint)
        try fixture.ingest(checkpoint)
        let some = try fixture.export("run@5", only: "*.safetensors")
        #expect(some == original.filter { $0.key == "model.safetensors" })
        #expect(try fixture.export("run@5", only: "*.json").count == 2)
        try fixture.expectRefusal(.noSuchRef, saying: "*.gguf") { _ = try fixture.export("run@5", only: "*.gguf") }
    }

    @Test func exportNeverOverwrites() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
        try FileTree.write("mine", to: fixture.path("full/file"))
        try FileTree.write("mine", to: fixture.path("file"))
        try FileTree.makeDirectory(fixture.path("empty"))
        try fixture.expectRefusal(.conflict, saying: "full") { try fixture.store.export("r@1", to: fixture.path("full")) }
        try fixture.expectRefusal(.conflict, saying: "file") { try fixture.store.export("r@1", to: fixture.path("file")) }
        // A directory cannot take the place of a link, wherever that leads.
        for (link, target) in [("dangling", "nowhere"), ("toEmpty", "empty"), ("toFull", "full")] {
            try FileManager.default.createSymbolicLink(atPath: fixture.path(link), withDestinationPath: target)
            try fixture.expectRefusal(.conflict, saying: link, "link") { try fixture.store.export("r@1", to: fixture.path(link)) }
        }
        try fixture.store.export("r@1", to: fixture.path("empty"))
        try fixture.store.export("r@1", to: fixture.path("made/on/the/way/"))
        #expect(try FileTree.contents(of: fixture.path("full")) == ["file": Data("mine".utf8)])
        let names = try FileManager.default.contentsOfDirectory(atPath: fixture.directory.path)
        #expect(names.filter { $0.hasPrefix(".") } == [])
    }

    /// Every tensor of every golden file reads the same from the image, from packed and from raw blocks.
    @Test(arguments: GoldenFiles.good) func tensorsReadTheSameFromImageAndBlocks(_ name: String) throws {
        let bytes = try GoldenFiles.bytes(name)
        let fixture = try StoreFixture()
        try fixture.ingest(bytes, as: name, run: "image", step: 1)
        let others = try ["dense": Packing.dense, "raw": .raw].map { run, packing in
            let other = try StoreFixture()
            try other.ingest(bytes, as: name, run: "r", step: 1) {
                $0.packing = packing
                $0.makesImage = false
            }
            return other
        }
        let snapshot = try fixture.store.snapshot("image@1")
        for tensor in snapshot.tensors {
            let expected = try fixture.bytes(of: tensor.name, in: "image@1")
            #expect(UInt64(expected.count) == tensor.byteCount)
            let viewed = try all(fixture.store.view(of: tensor.name, in: snapshot))
            if tensor.strides == nil { #expect(viewed == expected, "\(tensor.name): view of the image") }
            for other in others {
                #expect(try other.bytes(of: tensor.name, in: "r@1") == expected, "\(tensor.name)")
                guard tensor.strides == nil else { continue }
                do {
                    let view = try other.store.view(of: tensor.name, in: other.store.snapshot("r@1"))
                    #expect(try all(view) == expected, "\(tensor.name): view of blocks")
                } catch let error as StoreError {
                    // A view that cannot be given in place says so.
                    #expect(error.code == .failed && error.hint?.contains("ckpt path") == true)
                }
            }
        }
    }

    private func all(_ view: TensorView) throws -> [UInt8] {
        var bytes: [UInt8] = []
        for index in 0..<view.rowBlockCount { try view.withRowBlock(index) { bytes += $0 } }
        return bytes
    }

    @Test func viewsOfBlocksAreTheTensor() throws {
        let model = SafetensorsFixture.model(seed: 9, layers: 2, rows: 700, columns: 512)
        for packing in [Packing.dense, .raw] {
            let fixture = try StoreFixture()
            try fixture.ingest(model.bytes, run: "r", step: 1) {
                $0.packing = packing
                $0.makesImage = false
            }
            let snapshot = try fixture.store.snapshot("r")
            for tensor in model.tensors {
                let view = try fixture.store.view(of: tensor.name, in: snapshot)
                #expect(try all(view) == tensor.bytes)
            }
            let entry = try snapshot.tensor("layers.0.weight")
            let reader = try fixture.store.contents("r").makeReader()
            // Across block borders, at odd places.
            for range in [UInt64(0)..<1, 262_000..<263_000, 1..<716_799, 716_799..<716_800, 5..<5] {
                try reader.withBytes(of: entry, range) { bytes in
                    #expect(Array(bytes) == Array(model.tensors[0].bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
                }
            }
        }
    }
}
