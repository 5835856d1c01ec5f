internal import CZstd

/// zstd contexts for one thread.
final class Zstd {
    /// How a plane is compressed.
    enum Mode {
        /// Huffman coding of single bytes, next to no search for repeats: for planes of exponents, where zstd's
        /// usual levels spend their time on chance repeats and end up larger.
        case entropy
        /// Level 3: for text and integers.
        case general
    }

    private let compressor: OpaquePointer
    private let decompressor: OpaquePointer

    /// `ZSTD_c_literalCompressionMode` of zstd's static-only section, and its value "enable" (`huffman` before
    /// 1.5). A library without it returns an error, and `entropy` falls back to level 1.
    private static let literalCompressionMode = ZSTD_cParameter(rawValue: 1002)
    private static let literalCompressionOn: Int32 = 1
    /// Measured on exponent planes of 128 KiB with an order-0 bound of .3250 of their size: level -100 takes .3419,
    /// -1000 .3307, -4000 .3305, each faster than the one before: fewer chance repeats are found.
    private static let entropyLevel: Int32 = -4000

    private let entropyLevelInUse: Int32
    private var mode: Mode?

    init() throws(CodecError) {
        guard let compressor = ZSTD_createCCtx() else { throw CodecError(.library, "zstd: no memory") }
        guard let decompressor = ZSTD_createDCtx() else {
            ZSTD_freeCCtx(compressor)
            throw CodecError(.library, "zstd: no memory")
        }
        self.compressor = compressor
        self.decompressor = decompressor
        let probe = ZSTD_CCtx_setParameter(compressor, Zstd.literalCompressionMode, Zstd.literalCompressionOn)
        entropyLevelInUse = ZSTD_isError(probe) == 0 ? Zstd.entropyLevel : 1
    }

    deinit {
        ZSTD_freeCCtx(compressor)
        ZSTD_freeDCtx(decompressor)
    }

    /// Compresses `source` into `target` as one frame that names its content size; nil when it does not fit.
    func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer, mode: Mode
    ) -> Int? {
        if self.mode != mode {
            let isEntropy = mode == .entropy
            _ = ZSTD_CCtx_setParameter(
                compressor, ZSTD_c_compressionLevel, isEntropy ? entropyLevelInUse : 3)
            _ = ZSTD_CCtx_setParameter(
                compressor, Zstd.literalCompressionMode, isEntropy ? Zstd.literalCompressionOn : 0)
            self.mode = mode
        }
        let count = ZSTD_compress2(
            compressor, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(count) == 0 else {
            // A frame that did not fit stays open, and while it is open most parameters cannot be set.
            ZSTD_CCtx_reset(compressor, ZSTD_reset_session_only)
            return nil
        }
        return count
    }

    /// Decompresses the one frame `source` into `target`, which it must fill exactly.
    func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) throws(CodecError) {
        // Decoders differ in what they make of several frames or of skippable ones: there is one.
        guard ZSTD_findFrameCompressedSize(source.baseAddress, source.count) == source.count,
            ZSTD_getFrameContentSize(source.baseAddress, source.count) == UInt64(target.count)
        else { throw CodecError(.malformed, "not one zstd frame of \(target.count) bytes") }
        let count = ZSTD_decompressDCtx(
            decompressor, target.baseAddress, target.count, source.baseAddress, source.count)
        guard ZSTD_isError(count) == 0 else {
            throw CodecError(.malformed, "zstd: \(String(cString: ZSTD_getErrorName(count)))")
        }
        guard count == target.count else {
            throw CodecError(.malformed, "zstd frame holds \(count) bytes, not \(target.count)")
        }
    }
}
