import BlockCodec
import Foundation
import TensorFormats
import TestSupport
import Testing

/// Packed blocks that `tools/reference/codec/make_blocks.py` builds by hand from the format's description.
@Suite struct GoldenBlockTests {
    private struct Golden: Decodable {
        struct Accepted: Decodable {
            var name: String
            var element: UInt8
            var packed: Data
            var raw: Data
            var times: Int
            /// The raw bytes of its bases, to be taken `times` times too.
            var bases: [Data]?

            var rawBytes: [UInt8] { repeated(raw) }
            var guardedBases: [GuardedBytes] { (bases ?? []).map { GuardedBytes(repeated($0)) } }

            private func repeated(_ piece: Data) -> [UInt8] { (0..<times).flatMap { _ in [UInt8](piece) } }
        }
        struct Refused: Decodable {
            var name: String
            var packed: Data
            var rawCount: Int
            var code: String
            var bases: [Data]?
        }
        var accepted: [Accepted]
        var refused: [Refused]
    }

    private static let golden = Result {
        let directory = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try decoder.decode(
            Golden.self, from: Data(contentsOf: directory.appending(path: "Golden/codec/blocks.json")))
    }

    @Test func decodesBlocksBuiltByHand() throws {
        let cases = try Self.golden.get().accepted
        #expect(cases.count >= 370)
        let coder = try BlockCoder()
        for block in cases {
            let packed = GuardedBytes([UInt8](block.packed))
            let header = try PackedHeader(packed.readable)
            #expect(header.element.rawValue == block.element, "\(block.name)")
            let raw = block.rawBytes
            #expect(header.rawCount == raw.count, "\(block.name)")
            let target = GuardedBytes(count: raw.count)
            let bases = block.guardedBases
            do throws(CodecError) {
                try coder.unpack(packed.readable, bases: bases.map(\.readable), into: target.bytes)
            } catch {
                Issue.record("\(block.name): \(error)")
                continue
            }
            #expect(target.readable.elementsEqual(raw), "\(block.name)")
        }
        #expect(Set(cases.map(\.element)) == Set(DType.allCases.map(\.rawValue)))
    }

    @Test func refusesBlocksThatBreakARule() throws {
        let cases = try Self.golden.get().refused
        #expect(cases.count >= 190)
        let coder = try BlockCoder()
        for block in cases {
            let packed = GuardedBytes([UInt8](block.packed))
            let target = GuardedBytes(count: block.rawCount)
            let bases = (block.bases ?? []).map { GuardedBytes([UInt8]($0)) }
            let error = #expect(throws: CodecError.self, "\(block.name)") {
                try coder.unpack(packed.readable, bases: bases.map(\.readable), into: target.bytes)
            }
            #expect(error?.code == (block.code == "unknown" ? .unknownCodec : .malformed), "\(block.name): \(error as Any)")
        }
    }

    /// Whatever our packer makes of the same bytes, it unpacks to them.
    @Test func packsTheirRawBytes() throws {
        let coder = try BlockCoder()
        for block in try Self.golden.get().accepted {
            let element = try #require(DType(rawValue: block.element))
            let raw = GuardedBytes(block.rawBytes)
            let packed = GuardedBytes(count: raw.bytes.count + 16)
            let count = try coder.pack(raw.readable, element: element, packing: .dense, into: packed.bytes)
            let target = GuardedBytes(count: raw.bytes.count)
            try coder.unpack(UnsafeRawBufferPointer(rebasing: packed.readable[..<count]), into: target.bytes)
            #expect(target.readable.elementsEqual(raw.readable), "\(block.name)")
        }
    }
}
