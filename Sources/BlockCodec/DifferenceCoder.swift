internal import CKernels
internal import TensorFormats

/// Codec 2: a block as its difference from a base block, coded under the exponent of the base. `delta_kernels.h` has the
/// arithmetic, `format-spec/store-format.md` the bytes.
///
/// Differences of floats count in units of the last place, so their spread depends on the exponent; the decoder knows the
/// base, so the classes cost nothing. With the base's own base at hand, half of the step that led to the base is
/// expected again (consecutive updates of a training run point the same way), and whether there was a step is
/// part of the context.
final class DifferenceCoder {
    /// What the encoder has found out from a sample.
    struct Plan {
        var usesPrevious: Bool
        var shift: Int
        /// The exponent that keys count down from; the few words above it are of the first class.
        var top: Int32
        /// Keys at which a new class begins, a bit each; bit 0 is clear.
        var classStarts: UInt32
        var classCount: Int { classStarts.nonzeroBitCount + 1 }
        /// Expected bytes of the payload.
        var expectedBytes: Int
    }

    /// `transform` in the packed header: precision, shift, form of the mask.
    private struct Transform {
        var precision: Int
        var shift: Int
        var mask: UnitMask.Form

        var encoded: UInt32 { UInt32(precision) | UInt32(shift) << 8 | UInt32(mask.rawValue) << 16 }

        init(precision: Int, shift: Int, mask: UnitMask.Form) {
            self.precision = precision
            self.shift = shift
            self.mask = mask
        }

        init(_ bits: UInt32, _ layout: ElementLayout) throws(CodecError) {
            precision = Int(bits & 0xFF)
            shift = Int(bits >> 8 & 0xFF)
            guard bits >> 24 == 0, let mask = UnitMask.Form(rawValue: UInt8(bits >> 16 & 0xFF)),
                TokenCoder.precisions.contains(precision), shift <= layout.maximumShift
            else { throw CodecError(.malformed, "transform 0x\(String(bits, radix: 16)) of a difference") }
            self.mask = mask
        }
    }

    private static let classFieldBytes = 6
    private static let sampleWords = 4096
    private static let samplePieces = 32
    private static let allKeys = (0..<UInt8(ck_delta_keys)).map { $0 }

    private let kernels: ck_kernels
    private let coder: TokenCoder
    private let tokens: UnsafeMutablePointer<UInt8>
    private let contexts: UnsafeMutablePointer<UInt8>
    private let folded: UnsafeMutableRawBufferPointer
    private let extra: UnsafeMutablePointer<UInt8>
    /// Room for the coded units of target, base and previous.
    private let gathered: [UnsafeMutableRawBufferPointer]
    /// Room for a sample of the three.
    private let samples: UnsafeMutableRawBufferPointer
    private let histogram: UnsafeMutablePointer<UInt32>

    init(_ kernels: ck_kernels, _ coder: TokenCoder) {
        self.kernels = kernels
        self.coder = coder
        let block = BlockCoder.maximumBlockBytes
        tokens = .allocate(capacity: block)
        contexts = .allocate(capacity: block)
        folded = .allocate(byteCount: block, alignment: 64)
        extra = .allocate(capacity: block + block / 4 + 16)
        gathered = (0..<3).map { _ in .allocate(byteCount: block, alignment: 64) }
        samples = .allocate(byteCount: 3 * 8 * DifferenceCoder.sampleWords, alignment: 64)
        histogram = .allocate(capacity: 4 * TokenCoder.maximumContexts * Int(ck_delta_tokens))
    }

    deinit {
        tokens.deallocate()
        contexts.deallocate()
        folded.deallocate()
        extra.deallocate()
        for buffer in gathered { buffer.deallocate() }
        samples.deallocate()
        histogram.deallocate()
    }

    // MARK: - Encoding

    /// The block's words as they are coded: those of units that differ from the base.
    private struct Words {
        var target: UnsafeRawBufferPointer
        var base: UnsafeRawBufferPointer
        var previous: UnsafeRawBufferPointer?
        var count: Int
    }

    /// Expected bytes of `raw` against `base`, told by a sample; nil when its words are not whole.
    ///
    /// - Complexity: O(1).
    func expectedBytes(
        _ raw: UnsafeRawBufferPointer, _ base: UnsafeRawBufferPointer, _ previous: UnsafeRawBufferPointer?,
        _ layout: ElementLayout
    ) -> Int? {
        guard raw.count > 0, raw.count % layout.width == 0 else { return nil }
        return plan(Words(target: raw, base: base, previous: previous, count: raw.count / layout.width), layout).expectedBytes
    }

    /// Packs `raw` against `bases` unless it is expected to take `limit` bytes or more.
    ///
    /// - Parameter room: for payload bytes.
    /// - Returns: payload bytes, transform and the number of bases used, or nil when another codec does better.
    func pack(
        _ raw: UnsafeRawBufferPointer, bases: [BaseBlock], _ layout: ElementLayout, limit: Int,
        into room: UnsafeMutableRawBufferPointer
    ) -> (bytes: Int, transform: UInt32, bases: Int)? {
        guard raw.count > 0, raw.count % layout.width == 0 else { return nil }
        var mask = UnitMask(raw, bases[0].bytes, width: layout.width)
        if !isWorth(mask, raw, bases[0].bytes, layout) { mask = .all(width: layout.width, byteCount: raw.count) }
        let (form, maskBytes) = mask.encoded()
        let words = gather(raw, bases, mask, layout)
        let plan = plan(words, layout)
        guard maskBytes.count + plan.expectedBytes < limit else { return nil }
        let contextCount = plan.classCount * (plan.usesPrevious ? 2 : 1)
        let precision = TokenCoder.precision(contexts: contextCount)
        guard let count = write(words, plan, layout, contextCount, precision, maskBytes, into: room) else { return nil }
        let transform = Transform(precision: precision, shift: plan.shift, mask: form)
        return (count, transform.encoded, plan.usesPrevious ? 2 : 1)
    }

    /// Whether a mask leaves out more units than chance does where changes are scattered: there the entropy coder does
    /// without.
    private func isWorth(
        _ mask: UnitMask, _ raw: UnsafeRawBufferPointer, _ base: UnsafeRawBufferPointer, _ layout: ElementLayout
    ) -> Bool {
        guard mask.leftOut > 1.0 / 16 else { return false }
        let words = raw.count / layout.width
        let step = max(1, words / DifferenceCoder.sampleWords)
        var sampled = 0, equal = 0
        for word in stride(from: 0, to: words, by: step) {
            let at = word * layout.width
            sampled += 1
            if (0..<layout.width).allSatisfy({ raw[at + $0] == base[at + $0] }) { equal += 1 }
        }
        let share = Double(equal) / Double(sampled)
        let byChance = (0..<6).reduce(share) { power, _ in power * power }
        return share > 0.999 || mask.leftOut > byChance + 0.05
    }

    private func gather(
        _ raw: UnsafeRawBufferPointer, _ bases: [BaseBlock], _ mask: UnitMask, _ layout: ElementLayout
    ) -> Words {
        let previous = bases.count > 1 ? bases[1].bytes : nil
        guard mask.codedBytes < raw.count else {
            return Words(target: raw, base: bases[0].bytes, previous: previous, count: raw.count / layout.width)
        }
        mask.gather(raw, into: gathered[0])
        mask.gather(bases[0].bytes, into: gathered[1])
        if let previous { mask.gather(previous, into: gathered[2]) }
        func part(_ index: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: gathered[index][..<mask.codedBytes]) }
        return Words(
            target: part(0), base: part(1), previous: previous == nil ? nil : part(2), count: mask.codedBytes / layout.width)
    }

    private func write(
        _ words: Words, _ plan: Plan, _ layout: ElementLayout, _ contextCount: Int, _ precision: Int, _ mask: [UInt8],
        into room: UnsafeMutableRawBufferPointer
    ) -> Int? {
        guard mask.count + DifferenceCoder.classFieldBytes <= room.count else { return nil }
        mask.withUnsafeBytes { room.copyMemory(from: $0) }
        guard words.count > 0 else { return mask.count }
        var delta = layout.delta(shift: plan.shift)
        let previous = plan.usesPrevious ? words.previous?.baseAddress : nil
        delta.top = plan.top
        kernels.delta_model(
            &delta, DifferenceCoder.classes(plan.classStarts), words.target.baseAddress, words.base.baseAddress, previous,
            words.count, tokens, contexts, folded.baseAddress)
        var end = mask.count
        room.storeBytes(of: UInt16(delta.top).littleEndian, toByteOffset: end, as: UInt16.self)
        room.storeBytes(of: plan.classStarts.littleEndian, toByteOffset: end + 2, as: UInt32.self)
        end += DifferenceCoder.classFieldBytes
        let rest = UnsafeMutableRawBufferPointer(rebasing: room[end...])
        guard
            let coded = coder.encode(
                tokens, contexts, count: words.count, alphabet: layout.alphabet, contexts: contextCount, precision: precision,
                expectedBytes: plan.expectedBytes, into: rest)
        else { return nil }
        end += coded
        let extraBytes = kernels.delta_put_extra(Int32(layout.width), tokens, folded.baseAddress, words.count, extra)
        guard extraBytes <= room.count - end else { return nil }
        UnsafeMutableRawBufferPointer(rebasing: room[end...]).copyMemory(
            from: UnsafeRawBufferPointer(start: extra, count: extraBytes))
        return end + extraBytes
    }

    // MARK: - Planning

    private func plan(_ words: Words, _ layout: ElementLayout) -> Plan {
        let sample = sample(words, layout)
        let shift = shift(words, sample, layout)
        var plan = plan(sample, of: words, usesPrevious: false, shift: shift, layout)
        if words.previous != nil {
            let other = self.plan(sample, of: words, usesPrevious: true, shift: shift, layout)
            if other.expectedBytes < plan.expectedBytes { plan = other }
        }
        return plan
    }

    /// Pieces from all over the block.
    private func sample(_ words: Words, _ layout: ElementLayout) -> Words {
        guard words.count > DifferenceCoder.sampleWords else { return words }
        let piece = DifferenceCoder.sampleWords / DifferenceCoder.samplePieces * layout.width
        let step = (words.count * layout.width - piece) / (DifferenceCoder.samplePieces - 1) / layout.width * layout.width
        let bytes = DifferenceCoder.sampleWords * layout.width
        func take(_ source: UnsafeRawBufferPointer, _ part: Int) -> UnsafeRawBufferPointer {
            let target = UnsafeMutableRawBufferPointer(rebasing: samples[(part * bytes)..<((part + 1) * bytes)])
            for index in 0..<DifferenceCoder.samplePieces {
                UnsafeMutableRawBufferPointer(rebasing: target[(index * piece)..<((index + 1) * piece)]).copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: source[(index * step)..<(index * step + piece)]))
            }
            return UnsafeRawBufferPointer(target)
        }
        return Words(
            target: take(words.target, 0), base: take(words.base, 1), previous: words.previous.map { take($0, 2) },
            count: DifferenceCoder.sampleWords)
    }

    /// Low bits that are zero in all words of all blocks.
    private func shift(_ words: Words, _ sample: Words, _ layout: ElementLayout) -> Int {
        func zeroBits(_ words: Words) -> Int {
            [words.target, words.base, words.previous ?? words.base].reduce(layout.maximumShift) {
                min($0, Int(ck_zero_bits($1.baseAddress, $1.count, Int32(layout.width))))
            }
        }
        return zeroBits(sample) == 0 ? 0 : zeroBits(words)
    }

    private func plan(_ sample: Words, of words: Words, usesPrevious: Bool, shift: Int, _ layout: ElementLayout) -> Plan {
        var delta = layout.delta(shift: shift)
        delta.top = kernels.delta_top(&delta, sample.base.baseAddress, sample.count)
        kernels.delta_model(
            &delta, DifferenceCoder.allKeys, sample.target.baseAddress, sample.base.baseAddress,
            usesPrevious ? sample.previous?.baseAddress : nil, sample.count, tokens, contexts, folded.baseAddress)
        let stride = layout.alphabet
        let perKey = usesPrevious ? 2 : 1
        let keys = Int(ck_delta_keys)
        histogram.update(repeating: 0, count: 4 * keys * perKey * stride)
        ck_count_tokens(tokens, contexts, sample.count, stride, histogram, keys * perKey * stride)

        let scale = Double(words.count) / Double(max(1, sample.count))
        var bits = 0.0
        var wordsOfKey = [Double](repeating: 0, count: keys)
        for context in 0..<(keys * perKey) {
            let counts = histogram + context * stride
            let total = (0..<layout.alphabet).reduce(0) { $0 + Int(counts[$1]) }
            guard total > 0 else { continue }
            wordsOfKey[context / perKey] += Double(total) * scale
            bits += Entropy.bits(counts, layout.alphabet, total)
            for token in layout.directTokens..<max(layout.directTokens, layout.alphabet) where counts[token] > 0 {
                bits += Double(counts[token]) * Double(layout.extraBits(token))
            }
        }
        let bitsPerWord = bits / Double(max(1, sample.count))
        let starts = DifferenceCoder.classStarts(wordsOfKey, bitsPerWord)
        let contexts = (starts.nonzeroBitCount + 1) * perKey
        let tables = min(Double(contexts * 24), Double(words.count) / 4)
        return Plan(
            usesPrevious: usesPrevious, shift: shift, top: delta.top, classStarts: starts,
            expectedBytes: Int(bits * scale / 8 + tables) + 32)
    }

    /// Keys, from the top exponent down, are one class until it has words enough to be worth its own frequencies: the fewer
    /// bits a word takes, the more of them.
    private static func classStarts(_ wordsOfKey: [Double], _ bitsPerWord: Double) -> UInt32 {
        let enough = min(max(3000 / max(bitsPerWord, 0.05), 700), 40_000)
        var starts: UInt32 = 0
        var words = 0.0
        var left = wordsOfKey.reduce(0, +)
        for key in 0..<wordsOfKey.count {
            if words >= enough, left >= enough / 2 {
                starts |= 1 << UInt32(key)
                words = 0
            }
            words += wordsOfKey[key]
            left -= wordsOfKey[key]
        }
        return starts
    }

    /// The class of each key.
    private static func classes(_ starts: UInt32) -> [UInt8] {
        var current: UInt8 = 0
        return (0..<UInt32(ck_delta_keys)).map { key in
            if key > 0, starts >> key & 1 == 1 { current += 1 }
            return current
        }
    }

    // MARK: - Decoding

    /// Undoes `pack`: `bases` are the raw bytes of the blocks its header names. Safe on hostile bytes.
    func unpack(
        _ payload: UnsafeRawBufferPointer, transform bits: UInt32, bases: [UnsafeRawBufferPointer], _ layout: ElementLayout,
        into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        let transform = try Transform(bits, layout)
        guard target.count > 0, target.count % layout.width == 0 else {
            throw CodecError(.malformed, "a difference of \(target.count) bytes in words of \(layout.width)")
        }
        let (mask, maskBytes) = try UnitMask.read(transform.mask, payload, width: layout.width, byteCount: target.count)
        let rest = UnsafeRawBufferPointer(rebasing: payload[maskBytes...])
        let coded = mask.codedBytes
        guard coded < target.count else {
            return try read(rest, transform, bases, layout, into: target)
        }
        target.copyMemory(from: bases[0])
        if coded == 0 {
            guard rest.isEmpty else { throw CodecError(.malformed, "\(rest.count) bytes follow an empty difference") }
            return
        }
        var parts: [UnsafeRawBufferPointer] = []
        for (index, base) in bases.enumerated() {
            mask.gather(base, into: gathered[index + 1])
            parts.append(UnsafeRawBufferPointer(rebasing: gathered[index + 1][..<coded]))
        }
        let words = UnsafeMutableRawBufferPointer(rebasing: gathered[0][..<coded])
        try read(rest, transform, parts, layout, into: words)
        mask.scatter(UnsafeRawBufferPointer(words), into: target)
    }

    private func read(
        _ bytes: UnsafeRawBufferPointer, _ transform: Transform, _ bases: [UnsafeRawBufferPointer], _ layout: ElementLayout,
        into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        guard bytes.count >= DifferenceCoder.classFieldBytes else { throw CodecError(.malformed, "a difference is cut short") }
        var delta = layout.delta(shift: transform.shift)
        delta.top = Int32(UInt16(littleEndian: bytes.loadUnaligned(as: UInt16.self)))
        let starts = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt32.self))
        guard starts & 1 == 0, Int(delta.top) < 1 << Int(delta.exponent_bits) else {
            throw CodecError(.malformed, "classes 0x\(String(starts, radix: 16)) under exponent \(delta.top)")
        }
        let count = target.count / layout.width
        let previous = bases.count > 1 ? bases[1].baseAddress : nil
        kernels.delta_contexts(&delta, DifferenceCoder.classes(starts), bases[0].baseAddress, previous, count, contexts)
        let contextCount = (starts.nonzeroBitCount + 1) * (previous == nil ? 1 : 2)
        var rest = UnsafeRawBufferPointer(rebasing: bytes[DifferenceCoder.classFieldBytes...])
        let taken = try coder.decode(
            rest, contexts, count: count, alphabet: layout.alphabet, contexts: contextCount, precision: transform.precision,
            into: tokens)
        rest = UnsafeRawBufferPointer(rebasing: rest[taken...])
        let extra = rest.baseAddress?.assumingMemoryBound(to: UInt8.self)
        guard kernels.delta_take_extra(Int32(layout.width), tokens, count, extra, rest.count, folded.baseAddress) == 0 else {
            throw CodecError(.malformed, "\(rest.count) bytes of extra bits do not fit \(count) tokens")
        }
        kernels.delta_restore(&delta, bases[0].baseAddress, previous, folded.baseAddress, count, target.baseAddress)
    }
}

extension ElementLayout {
    /// Tokens that are the folded difference itself.
    var directTokens: Int { width == 1 ? 256 : width == 2 ? 32 : 16 }

    /// Tokens there are.
    var alphabet: Int {
        switch width {
        case 1: 256
        case 2: 32 + 4 * 11
        case 4: 16 + 4 * 28
        default: 16 + 4 * 60
        }
    }

    /// Extra bits of a token that is not direct.
    func extraBits(_ token: Int) -> Int { directTokens / 16 + 1 + (token - directTokens) / 4 }

    /// The most low bits that may be left out: below the exponent, and one bit stays.
    var maximumShift: Int { exponentBits > 0 ? mantissaBits : 8 * width - 1 }

    func delta(shift: Int) -> ck_delta_layout {
        ck_delta_layout(
            width: Int32(width), shift: Int32(shift), is_float: exponentBits > 0 ? 1 : 0,
            exponent_low: Int32(mantissaBits - shift), exponent_bits: Int32(exponentBits), top: 0)
    }
}
