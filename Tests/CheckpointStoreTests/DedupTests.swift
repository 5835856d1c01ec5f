import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// The same bytes are stored once, and go when the last that uses them goes.
@Suite struct DedupTests {
    @Test func sameBytesFromAnotherPath() throws {
        let fixture = try StoreFixture()
        let bytes = SafetensorsFixture.model(seed: 1).bytes
        let first = try fixture.ingest(bytes, run: "a", step: 1)
        let before = try fixture.store.stats()
        let second = try fixture.ingest(bytes, run: "b", step: 7)
        #expect(first.outcome == .stored && second.outcome == .known)
        #expect(second.id == first.id && second.newBytes == 0 && second.packedBytes == 0)
        let after = try fixture.store.stats()
        #expect(after.blocks == before.blocks && after.packedBytes == before.packedBytes && after.tensors == before.tensors)
        #expect(after.snapshots == 2)
        try fixture.expectWhole()
    }

    @Test func oneTensorOfEightAndALongerHeader() throws {
        let fixture = try StoreFixture()
        var model = SafetensorsFixture.model(seed: 1, layers: 8, rows: 600, columns: 500)
        try fixture.ingest(model.bytes, run: "r", step: 1)
        var source = SeededBytes(99)
        let changed = 2
        model.tensors[changed].bytes = source.bfloat16(count: 300_000)
        model.metadata = [("longer", "than before")]
        let result = try fixture.ingest(model.bytes, run: "r", step: 2)
        // The tensor and the header: nothing else.
        let header = model.bytes.count - model.tensors.reduce(0) { $0 + $1.bytes.count }
        #expect(result.newBytes == UInt64(600_000 + header))
        try fixture.expectWhole()
    }

    @Test func oneRowOfATensor() throws {
        let fixture = try StoreFixture()
        var model = SafetensorsFixture.model(seed: 1, layers: 1, rows: 2048, columns: 512)
        try fixture.ingest(model.bytes, run: "r", step: 1)
        model.tensors[0].bytes[1_000_000] ^= 1
        let result = try fixture.ingest(model.bytes, run: "r", step: 2)
        #expect(result.newBytes == 256 << 10)
    }

    @Test func safetensorsAndPyTorchShareTensors() throws {
        let fixture = try StoreFixture()
        let file = try GoldenFiles.bytes("module.pt")
        try fixture.ingest(file, as: "module.pt", run: "torch", step: 1)
        let tensors = try fixture.store.snapshot("torch").tensors.filter { $0.strides == nil && $0.byteCount > 0 }
        try #require(!tensors.isEmpty)
        let copy = SafetensorsFixture(
            try tensors.map { .init($0.name, $0.dtype, $0.shape, try fixture.bytes(of: $0.name, in: "torch")) })
        let result = try fixture.ingest(copy.bytes, run: "safe", step: 1)
        let header = copy.bytes.count - copy.tensors.reduce(0) { $0 + $1.bytes.count }
        #expect(result.newBytes == UInt64(header))
        for tensor in tensors where tensor.storageOffset == 0 {
            let twin = try fixture.store.snapshot("safe").tensor(tensor.name)
            #expect(twin.storage == tensor.storage, "\(tensor.name)")
        }
        try fixture.expectWhole()
    }

    @Test func tiedTensorsAreOneStorage() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(GoldenFiles.bytes("tied.pt"), as: "tied.pt", run: "r", step: 1)
        let tensors = try fixture.store.snapshot("r").tensors
        #expect(tensors.count >= 2)
        #expect(Set(tensors.map(\.storage)).count < tensors.count)
        try fixture.expectWhole()
    }

    /// Equal blocks side by side are read by different lanes at the same time: whichever is first, each is stored.
    @Test func manyEqualTensorsInOneFile() throws {
        for round in 0..<6 {
            let fixture = try StoreFixture()
            var tensors: [SafetensorsFixture.Tensor] = []
            for index in 0..<600 {
                // Equal tensors, and equal bytes under other shapes and types.
                let value = UInt8(truncatingIfNeeded: index / 6 + round)
                let bytes = [UInt8](repeating: value, count: 4096)
                switch index % 3 {
                case 0: tensors.append(.init("t\(index)", .f32, [1024], bytes))
                case 1: tensors.append(.init("t\(index)", .f32, [32, 32], bytes))
                default: tensors.append(.init("t\(index)", .bf16, [2048], bytes))
                }
            }
            let model = SafetensorsFixture(tensors)
            let result = try fixture.ingest(model.bytes, run: "r", step: 1)
            #expect(try fixture.store.stats().blocks <= 101 + 1)
            #expect(result.newBytes <= UInt64(101 * 4096 + model.bytes.count - 600 * 4096))
            #expect(try fixture.export("r@1") == ["model.safetensors": Data(model.bytes)])
            try fixture.expectWhole()
        }
    }

    @Test func equalBlocksInsideATensor() throws {
        let fixture = try StoreFixture()
        let model = SafetensorsFixture([
            .init("zeros", .f32, [16, 65536], [UInt8](repeating: 0, count: 4 << 20)),
            .init("more zeros", .f32, [8, 65536], [UInt8](repeating: 0, count: 2 << 20)),
        ])
        let result = try fixture.ingest(model.bytes, run: "r", step: 1)
        #expect(result.newBytes < 300 << 10)
        try fixture.expectWhole()
        try fixture.store.remove("r@1")
        #expect(try fixture.store.stats().blocks == 0)
        try fixture.expectWhole()
    }

    @Test func countsAfterRemovingInEveryOrder() throws {
        let model = SafetensorsFixture.model(seed: 1, layers: 4)
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1], [2, 1, 3]] {
            let fixture = try StoreFixture()
            for step in 1...3 {
                var variant = model
                variant.tensors[step].bytes[0] ^= UInt8(step)
                try fixture.ingest(variant.bytes, run: "r", step: UInt64(step))
            }
            try fixture.ingest(model.bytes, run: "other", step: 1)
            for step in order {
                try fixture.store.remove("r@\(step)")
                try fixture.expectWhole()
            }
            #expect(try fixture.export("other@1") == ["model.safetensors": Data(model.bytes)])
            try fixture.store.remove("other")
            let stats = try fixture.store.stats()
            #expect(stats.blocks == 0 && stats.tensors == 0 && stats.snapshots == 0 && stats.packedBytes == 0)
            #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images") == [])
            try fixture.expectWhole()
            try fixture.ingest(model.bytes, run: "again", step: 1)
            #expect(try fixture.export("again") == ["model.safetensors": Data(model.bytes)])
            try fixture.expectWhole()
        }
    }

    @Test func largeRemovalIsReleasedInSlices() throws {
        let fixture = try StoreFixture()
        // More entries than one slice releases.
        let tensors = (0..<5000).map { index in
            SafetensorsFixture.Tensor("t\(index)", .u32, [1], withUnsafeBytes(of: UInt32(index)) { Array($0) })
        }
        try fixture.ingest(SafetensorsFixture(tensors).bytes, run: "r", step: 1)
        try fixture.expectWhole()
        try fixture.store.remove("r")
        #expect(try fixture.store.stats().blocks == 0)
        try fixture.expectWhole()
    }

    /// How well a block is packed does not hang on what its lane packed before it.
    @Test func packedSizesDoNotDependOnTheOrder() throws {
        var sizes: Set<UInt64> = []
        for round in 0..<8 {
            var random = SeededBytes(1)
            let noise = (0..<4).map { SafetensorsFixture.Tensor("noise\($0)", .u8, [3000], random.bytes(3000)) }
            let weights = (0..<6).map {
                SafetensorsFixture.Tensor("weight\($0)", .bf16, [128, 128], random.bfloat16(count: 128 * 128))
            }
            let fixture = try StoreFixture()
            let tensors = round % 2 == 0 ? noise + weights : weights + noise
            try fixture.ingest(SafetensorsFixture(tensors).bytes, run: "r", step: 1)
            let codecs = try fixture.store.stats().codecs
            // Three of sixteen bits are exponents that vary.
            let dense = try #require(codecs[1])
            #expect(dense.packedBytes < dense.rawBytes * 3 / 4, "round \(round): \(dense)")
            sizes.insert(dense.packedBytes / 100)
        }
        #expect(sizes.count <= 2, "\(sizes)")
    }
}
