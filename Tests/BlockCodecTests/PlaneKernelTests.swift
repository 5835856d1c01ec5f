import CKernels
import Foundation
import TestSupport
import Testing

/// Both kernel sets against planes made one word at a time.
@Suite struct PlaneKernelTests {
    private let kernelSets = [ck_portable_kernels()!.pointee, ck_active_kernels()!.pointee]

    /// The format's words: most significant plane first, each word rotated left by one where `rotate` says so.
    private func planes(_ bytes: [UInt8], width: Int, rotate: Bool) -> [UInt8] {
        let words = bytes.count / width
        var planes = [UInt8](repeating: 0, count: bytes.count)
        for index in 0..<words {
            var word: UInt64 = 0
            for byte in 0..<width { word |= UInt64(bytes[index * width + byte]) << UInt64(8 * byte) }
            if rotate {
                let sign = word >> UInt64(8 * width - 1) & 1
                word = word << 1 | sign
            }
            for plane in 0..<width {
                planes[plane * words + index] = UInt8(truncatingIfNeeded: word >> UInt64(8 * (width - 1 - plane)))
            }
        }
        return planes
    }

    @Test(arguments: [1, 2, 4, 8], [false, true])
    func splitAndJoinAgreeWithTheReference(width: Int, rotate: Bool) throws {
        // A single byte is never rotated.
        if width == 1, rotate { return }
        var generator = SeededGenerator(test: "splitAndJoinAgreeWithTheReference(\(width), \(rotate))")
        for words in Array(0...70) + [127, 255, 256, 1000, 4099] {
            let raw = (0..<words * width).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
            let wanted = planes(raw, width: width, rotate: rotate)
            // Bytes that end at a page's end: of odd lengths the start is at every alignment.
            for shift in [0, 1, 3, 7] {
                let source = GuardedBytes(raw + [UInt8](repeating: 0, count: shift))
                for kernels in kernelSets {
                    let name = String(cString: kernels.name)
                    let comment: Comment = "\(name), \(words) words, seed \(generator.seed)"
                    let split = GuardedBytes(count: raw.count)
                    kernels.split_planes(
                        source.bytes.baseAddress, words, Int32(width), rotate ? 1 : 0,
                        split.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self))
                    #expect(split.readable.elementsEqual(wanted), comment)

                    let sources = (0..<width).map { plane -> UnsafePointer<UInt8>? in
                        UnsafePointer(split.bytes.baseAddress!.assumingMemoryBound(to: UInt8.self) + plane * words)
                    }
                    let joined = GuardedBytes(count: raw.count + shift)
                    joined.bytes.initializeMemory(as: UInt8.self, repeating: 0xA5)
                    kernels.join_planes(sources, words, Int32(width), rotate ? 1 : 0, joined.bytes.baseAddress)
                    #expect(joined.readable.prefix(raw.count).elementsEqual(raw), comment)
                    #expect(joined.readable.dropFirst(raw.count).allSatisfy { $0 == 0xA5 }, comment)
                }
            }
        }
    }

    @Test func constantIsToldFromNearlyConstant() {
        var generator = SeededGenerator(test: "constantIsToldFromNearlyConstant")
        for count in Array(0...70) + [255, 4096, 4097] {
            var bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: generator.next()), count: count)
            #expect(ck_is_constant(bytes, count) != 0, "\(count)")
            guard count > 1 else { continue }
            for place in [0, count / 2, count - 1] {
                bytes[place] ^= 1 << UInt8(generator.below(8))
                #expect(ck_is_constant(bytes, count) == 0, "\(count) at \(place), seed \(generator.seed)")
                bytes[place] = bytes[place == 0 ? 1 : 0]
            }
        }
    }

    @Test func sampledEntropyOfKnownDistributions() {
        let constant = [UInt8](repeating: 9, count: 100_000)
        #expect(ck_sampled_entropy(constant, 100_000) == 0)
        #expect(ck_sampled_entropy(constant, 0) == 0)
        let halves = (0..<4096).map { UInt8($0 % 2) }
        #expect(abs(ck_sampled_entropy(halves, 4096) - 1) < 1e-12)
        let all = (0..<4096).map { UInt8(truncatingIfNeeded: $0) }
        #expect(abs(ck_sampled_entropy(all, 4096) - 8) < 1e-12)
        // Sampled: 64 runs of 64, spread from the first byte to the last.
        var ends = [UInt8](repeating: 0, count: 1 << 18)
        for index in 0..<64 {
            ends[index] = 1
            ends[ends.count - 1 - index] = 1
        }
        let p = 2.0 / 64
        let wanted = -(p * log2(p) + (1 - p) * log2(1 - p))
        #expect(abs(ck_sampled_entropy(ends, ends.count) - wanted) < 1e-9)
    }
}
