import BlockCodec
import CheckpointStore
import Foundation
import TensorFormats
import TestSupport
import Testing

/// Weights of packed snapshots decoded into a file without a name.
@Suite struct DecodedAheadTests {
    static func bytes(_ contents: CheckpointContents) throws -> [String: [UInt8]] {
        let reader = try contents.makeReader()
        var bytes: [String: [UInt8]] = [:]
        for tensor in contents.tensors {
            bytes[tensor.name] = try reader.withBytes(of: tensor, 0..<tensor.byteCount) { Array($0) }
        }
        return bytes
    }

    static func model(_ seed: UInt64) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(generator.next() & 63) } }
        return SafetensorsFixture([
            .init("empty", .f32, [0, 4], []), .init("large", .bf16, [300, 700], bytes(420_000)), .init("small", .f32, [5], bytes(20)),
        ]).bytes
    }

    @Test func packedWeightsAreMappedAndNothingIsLeftBehind() throws {
        let fixture = try StoreFixture()
        for step in UInt64(0)..<3 { try fixture.ingest(DecodedAheadTests.model(step), step: step) { $0.makesImage = false } }
        for ref in ["r@0", "r@1", "r@2"] {
            let packed = try fixture.store.contents(ref)
            #expect(!packed.isMapped)
            let decoded = try packed.decodedAhead()
            #expect(decoded.isMapped && decoded.id == packed.id)
            #expect(try DecodedAheadTests.bytes(decoded) == DecodedAheadTests.bytes(packed))
            #expect(try FileManager.default.contentsOfDirectory(atPath: fixture.store.path + "/images") == [])
        }
    }

    @Test func whatIsMappedOrKeptRawStaysWhereItIs() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(DecodedAheadTests.model(1), step: 0) {
            $0.makesImage = false
            $0.packing = .raw
        }
        #expect(try !fixture.store.contents("r@0").decodedAhead().isMapped)
        try fixture.ingest(DecodedAheadTests.model(2), step: 1)
        #expect(try fixture.store.contents("r@1").decodedAhead().isMapped)
    }

    /// Elements that are apart, tied tensors, every dtype: all lie side by side afterwards, with an image too.
    @Test(arguments: GoldenFiles.good, [true, false]) func tensorsAreWhatTheyWere(_ name: String, _ makesImage: Bool) throws {
        let fixture = try StoreFixture()
        try fixture.ingest(GoldenFiles.bytes(name), as: name) { $0.makesImage = makesImage }
        let contents = try fixture.store.contents("r")
        let decoded = try contents.decodedAhead()
        let weights = contents.tensors.filter { $0.part == .weights }
        let twins = decoded.tensors.filter { $0.part == .weights }
        #expect(twins.allSatisfy { $0.strides == nil } && twins.count == weights.count)
        let (before, after) = (try contents.makeReader(), try decoded.makeReader())
        for (tensor, twin) in zip(weights, twins) {
            let bytes = try before.withBytes(of: tensor, 0..<tensor.byteCount) { Array($0) }
            #expect(try after.withBytes(of: twin, 0..<twin.byteCount) { Array($0) } == bytes, "\(tensor.name)")
        }
    }

    @Test func itCanBeStopped() throws {
        let fixture = try StoreFixture()
        try fixture.ingest(DecodedAheadTests.model(1)) { $0.makesImage = false }
        let contents = try fixture.store.contents("r")
        #expect { try contents.decodedAhead(isCancelled: { true }) } throws: { ($0 as? StoreError)?.code == .interrupted }
    }
}
