internal import CKernels

/// Codec 3: a block with few distinct words, such as weights that were quantised to 4 or 8 bits and dequantised again: in each
/// segment a palette of its words in ascending order, and for each word its place there, entropy-coded.
///
/// ```
/// u32 words a segment; for each segment: u8 words of its palette - 1, and those; then the tokens
/// ```
final class PaletteCoder {
    static let maximumWords = 256
    private static let segments = [4096, 1024, 512, 256, 128, 64, 32]
    /// Hashes of the first 256 words that differ when a palette is unlikely: 256 distinct words set about 226 of 1,024 bits, a palette of 255 levels about 150.
    private static let manyHashes = 190

    private let coder: TokenCoder
    private let places: UnsafeMutablePointer<UInt8>
    private let contexts: UnsafeMutablePointer<UInt8>

    init(_ coder: TokenCoder) {
        self.coder = coder
        places = .allocate(capacity: BlockCoder.maximumBlockBytes)
        contexts = .allocate(capacity: BlockCoder.maximumBlockBytes)
        contexts.initialize(repeating: 0, count: BlockCoder.maximumBlockBytes)
    }

    deinit {
        places.deallocate()
        contexts.deallocate()
    }

    private static func word(_ raw: UnsafeRawBufferPointer, _ index: Int, _ width: Int) -> UInt64 {
        switch width {
        case 2: UInt64(raw.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self))
        case 4: UInt64(raw.loadUnaligned(fromByteOffset: 4 * index, as: UInt32.self))
        default: raw.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self)
        }
    }

    /// The distinct words of a range, ascending; nil when there are over `limit`.
    private static func distinct(_ raw: UnsafeRawBufferPointer, _ range: Range<Int>, _ width: Int, limit: Int) -> [UInt64]? {
        var known = Set<UInt64>(minimumCapacity: limit)
        for index in range {
            known.insert(word(raw, index, width))
            if known.count > limit { return nil }
        }
        return known.sorted()
    }

    /// Different hashes of ten bits among the first words: a quick look that turns most blocks away.
    private static func hashes(_ raw: UnsafeRawBufferPointer, _ words: Int, _ width: Int) -> Int {
        var seen = (SIMD8<UInt64>(), SIMD8<UInt64>())
        return withUnsafeMutableBytes(of: &seen) { bytes in
            let bits = bytes.bindMemory(to: UInt64.self)
            for index in 0..<words {
                let hash = (word(raw, index, width) &* 0x9E37_79B9_7F4A_7C15) >> 54
                bits[Int(hash >> 6)] |= 1 << (hash & 63)
            }
            return bits.reduce(0) { $0 + $1.nonzeroBitCount }
        }
    }

    /// The words a segment that look best, with the bytes expected, or nil when there is no palette worth having.
    func plan(_ raw: UnsafeRawBufferPointer, width: Int) -> (segment: Int, expectedBytes: Int)? {
        let words = raw.count / width
        guard width > 1, words > 0, raw.count % width == 0, PaletteCoder.hashes(raw, min(words, 256), width) <= PaletteCoder.manyHashes
        else { return nil }
        var best: (segment: Int, expectedBytes: Int)?
        for segment in [words] + PaletteCoder.segments where segment <= words {
            // Four segments stand for all; of the whole block there is one.
            let starts = segment == words ? [0] : [0, 1, 2, 3].map { $0 * (words - segment) / 3 / segment * segment }
            var sizes: [Int] = []
            for start in starts {
                guard let palette = PaletteCoder.distinct(raw, start..<(start + segment), width, limit: PaletteCoder.maximumWords)
                else { break }
                sizes.append(palette.count)
            }
            guard sizes.count == starts.count else { continue }
            let size = Double(sizes.reduce(0, +)) / Double(sizes.count)
            var bits = 0
            while 1 << bits < Int(size.rounded(.up)) { bits += 1 }
            let count = (words + segment - 1) / segment
            let expected = words * bits / 8 + count * (1 + Int(size) * width)
            if expected < best?.expectedBytes ?? .max { best = (segment, expected) }
        }
        return best
    }

    /// - Returns: payload bytes and transform, or nil when a segment has too many words or the room does not do.
    func pack(
        _ raw: UnsafeRawBufferPointer, width: Int, segment: Int, into room: UnsafeMutableRawBufferPointer
    ) -> (bytes: Int, transform: UInt32)? {
        let words = raw.count / width
        var end = 4
        guard end <= room.count else { return nil }
        room.storeBytes(of: UInt32(segment).littleEndian, as: UInt32.self)
        var start = 0
        while start < words {
            let range = start..<min(start + segment, words)
            guard let palette = PaletteCoder.distinct(raw, range, width, limit: PaletteCoder.maximumWords),
                end + 1 + palette.count * width <= room.count
            else { return nil }
            room[end] = UInt8(palette.count - 1)
            end += 1
            for word in palette {
                for byte in 0..<width { room[end + byte] = UInt8(truncatingIfNeeded: word >> UInt64(8 * byte)) }
                end += width
            }
            place(raw, range, width, palette)
            start = range.upperBound
        }
        let precision = TokenCoder.precision(contexts: 1)
        let rest = UnsafeMutableRawBufferPointer(rebasing: room[end...])
        guard
            let coded = coder.encode(
                places, contexts, count: words, alphabet: PaletteCoder.maximumWords, contexts: 1, precision: precision,
                expectedBytes: words / 4, into: rest)
        else { return nil }
        return (end + coded, UInt32(precision))
    }

    /// Notes each word's place in the palette.
    private func place(_ raw: UnsafeRawBufferPointer, _ range: Range<Int>, _ width: Int, _ palette: [UInt64]) {
        var places: [UInt64: UInt8] = [:]
        places.reserveCapacity(palette.count)
        for (place, word) in palette.enumerated() { places[word] = UInt8(place) }
        var last: (word: UInt64, place: UInt8) = (palette[0], 0)
        for index in range {
            let word = PaletteCoder.word(raw, index, width)
            if word != last.word { last = (word, places[word]!) }
            self.places[index] = last.place
        }
    }

    /// Undoes `pack`. Safe on hostile bytes.
    func unpack(
        _ payload: UnsafeRawBufferPointer, transform: UInt32, width: Int, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let words = target.count / width
        guard width > 1, words > 0, target.count % width == 0, payload.count >= 4, TokenCoder.precisions.contains(Int(transform))
        else { throw CodecError(.malformed, "a palette for \(target.count) bytes in words of \(width)") }
        let segment = Int(UInt32(littleEndian: payload.loadUnaligned(as: UInt32.self)))
        guard segment > 0 else { throw CodecError(.malformed, "palettes of no words") }
        var end = 4
        var palettes: [(start: Int, count: Int)] = []
        for _ in 0..<((words + segment - 1) / segment) {
            guard end < payload.count, end + 1 + (Int(payload[end]) + 1) * width <= payload.count else {
                throw CodecError(.malformed, "a palette reaches past its block")
            }
            palettes.append((end + 1, Int(payload[end]) + 1))
            end += 1 + (Int(payload[end]) + 1) * width
        }
        let rest = UnsafeRawBufferPointer(rebasing: payload[end...])
        let taken = try coder.decode(
            rest, contexts, count: words, alphabet: PaletteCoder.maximumWords, contexts: 1, precision: Int(transform),
            into: places)
        guard taken == rest.count else { throw CodecError(.malformed, "\(rest.count - taken) bytes follow the tokens") }
        for (index, palette) in palettes.enumerated() {
            let range = (index * segment)..<min((index + 1) * segment, words)
            try look(range, payload.baseAddress! + palette.start, palette.count, width, into: target)
        }
    }

    private func look(
        _ range: Range<Int>, _ palette: UnsafeRawPointer, _ count: Int, _ width: Int,
        into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        for word in range {
            let place = Int(places[word])
            guard place < count else { throw CodecError(.malformed, "word \(word) is number \(place) of a palette of \(count)") }
            let source = palette + place * width
            let to = target.baseAddress! + word * width
            switch width {
            case 2: to.storeBytes(of: source.loadUnaligned(as: UInt16.self), as: UInt16.self)
            case 4: to.storeBytes(of: source.loadUnaligned(as: UInt32.self), as: UInt32.self)
            default: to.storeBytes(of: source.loadUnaligned(as: UInt64.self), as: UInt64.self)
            }
        }
    }
}
