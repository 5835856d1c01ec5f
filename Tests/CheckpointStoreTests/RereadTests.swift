import CKernels
import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// Reads of mapped files: the first by the file, later ones out of the map, past the caches.
@Suite struct RereadTests {
    /// Every way in which a copy can begin and end within lines of the cache, right up to pages that must not be touched.
    @Test func copiesWhatItIsAskedTo() throws {
        var random = SeededBytes(3)
        for count in Array(0...200) + [1023, 1024, 1025, 4096, 10_000] {
            for shift in [0, 1, 15, 16, 31, 33, 63] {
                let source = GuardedBytes(random.bytes(count))
                // Written from a place that ends at a guard page, and into one that does, each moved.
                let target = UnsafeMutableRawBufferPointer.allocate(byteCount: count + 128, alignment: 64)
                defer { target.deallocate() }
                target.initializeMemory(as: UInt8.self, repeating: 0xA5)
                ck_copy_streaming(target.baseAddress! + shift, source.bytes.baseAddress, count)
                #expect(target[shift..<(shift + count)].elementsEqual(source.bytes))
                #expect(target[..<shift].allSatisfy { $0 == 0xA5 } && target[(shift + count)...].allSatisfy { $0 == 0xA5 })
                let back = GuardedBytes(count: count)
                ck_copy_streaming(back.bytes.baseAddress, target.baseAddress! + shift, count)
                #expect(back.bytes.elementsEqual(source.bytes))
            }
        }
    }

    @Test func whatIsMappedButNotReadIsNotInMemory() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/file"
        try FileTree.write([UInt8](repeating: 1, count: 3 << 20), to: path)
        let map = try MappedFile(path)
        // Just written: in memory, and over and over.
        #expect(ck_is_resident(map.bytes.baseAddress, map.bytes.count) != 0)
        #expect(ck_is_resident(map.bytes.baseAddress! + 4095, 2) != 0)
        #expect(ck_is_resident(map.bytes.baseAddress, 0) != 0)
        // Cut short by another hand: what is not there is in no memory, and is not touched.
        truncate(path, 1 << 20)
        #expect(ck_is_resident(map.bytes.baseAddress, map.bytes.count) == 0)
        #expect(ck_is_resident(map.bytes.baseAddress, 1 << 20) != 0)
    }

    /// Read again and again, in the stretches of the first time and in others, a checkpoint is the same; cut short it is an error, not a signal.
    @Test func theSameEachTime() throws {
        let fixture = try StoreFixture()
        var bytes = SeededBytes(9)
        let values = bytes.bytes(3 << 20)
        let model = SafetensorsFixture([.init("w", .u8, [3 << 20], values), .init("v", .f32, [256, 4], Array(values[..<4096]))]).bytes
        let image = try #require(try fixture.ingest(model, run: "r").image)
        let contents = try fixture.store.contents("r")
        let tensor = try #require(contents.tensors.first { $0.name == "w" })
        for (offset, count) in [(0, 3 << 20), (0, 3 << 20), (1, 1 << 20), (4097, (2 << 20) + 3), (3 << 19, 3 << 19)] {
            var room = [UInt8](repeating: 0, count: count)
            try room.withUnsafeMutableBytes { try contents.read([TensorRead(tensor, offset: UInt64(offset), into: $0)]) }
            #expect(room.elementsEqual(values[offset..<(offset + count)]))
        }
        chmod(image + "/model.safetensors", 0o644)
        truncate(image + "/model.safetensors", 1 << 20)
        #expect { () throws in
            var room = [UInt8](repeating: 0, count: 3 << 20)
            try room.withUnsafeMutableBytes { try contents.read(tensor, into: $0) }
        } throws: { ($0 as? StoreError)?.code == .incomplete }
    }
}
