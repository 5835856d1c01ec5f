import Testing

@testable import LanguageModel

/// The known answers of the Random123 library (kat_vectors), and what is made of the words.
@Suite struct PhiloxTests {
    @Test(arguments: [
        ([0, 0, 0, 0], (0, 0), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        (
            [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff], (0xffff_ffff, 0xffff_ffff),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        ),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], (0xa409_3822, 0x299f_31d0),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        ),
    ] as [(SIMD4<UInt32>, (UInt32, UInt32), SIMD4<UInt32>)])
    func `the words are those of the published vectors`(counter: SIMD4<UInt32>, key: (UInt32, UInt32), words: SIMD4<UInt32>) {
        #expect(Philox.words(counter, key: key) == words)
    }

    @Test func `streams are named by all four`() {
        func first(_ seed: UInt64, _ purpose: Philox.Purpose, _ round: UInt32, _ pass: UInt32) -> UInt32 {
            var stream = Philox(seed: seed, purpose, round: round, pass: pass)
            return stream.word()
        }
        let words = [
            first(1, .draw, 0, 0), first(2, .draw, 0, 0), first(1 << 32, .draw, 0, 0), first(1, .shuffle, 0, 0), first(1, .draw, 1, 0),
            first(1, .draw, 0, 1),
        ]
        #expect(Set(words).count == words.count)
    }

    @Test func `a permutation has each place once, and uniforms are uniform`() {
        var stream = Philox(seed: 7, .shuffle)
        #expect(stream.permutation(1000).sorted() == Array(0..<1000))
        let values = (0..<10000).map { _ in stream.uniform() }
        #expect(values.allSatisfy { $0 >= 0 && $0 < 1 })
        #expect(abs(values.reduce(0, +) / 10000 - 0.5) < 0.01)
    }
}
