import Testing

@testable import CheckpointStore

/// The pair of hashes against swift-crypto's single one.
@Suite struct ContentIDTests {
    private let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }

    private func check(_ a: Range<Int>, _ b: Range<Int>) {
        bytes.withUnsafeBytes { bytes in
            let first = UnsafeRawBufferPointer(rebasing: bytes[a]), second = UnsafeRawBufferPointer(rebasing: bytes[b])
            let pair = ContentID.hashes(of: first, second)
            #expect(pair.0 == ContentID.hash(of: first), "\(a) \(b)")
            #expect(pair.1 == ContentID.hash(of: second), "\(a) \(b)")
        }
    }

    /// Every length about the ends of blocks of 64 and of the padding, together with other lengths, unaligned.
    @Test func pairsOfShortMessages() {
        for a in 0...200 {
            for b in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 191, 1000] { check(a % 7..<(a % 7 + a), 3..<(3 + b)) }
        }
    }

    @Test func pairsOfBlocks() {
        check(0..<262_144, 37_856..<300_000)
        check(1..<262_145, 0..<262_144)
        check(0..<262_144, 0..<0)
        check(5..<100_000, 0..<300_000)
    }

    @Test func knownDigest() throws {
        // FIPS 180-4's own example.
        let abc = Array("abc".utf8)
        let pair = abc.withUnsafeBytes { ContentID.hashes(of: $0, $0) }
        #expect("\(pair.0)" == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" && pair.1 == pair.0)
    }
}
