internal import CKernels

/// Tokens in contexts to bytes and back: a table of frequencies and a rANS stream.
///
/// ```
/// u8 lanes, u16 table bytes, u16 of them packed, table (a zstd frame when packed is less), u32 stream bytes, stream
/// ```
struct TokenCoder {
    static let precisions = 10...12
    static let maximumContexts = Int(ck_delta_maximum_contexts)
    /// Before the table: lanes and its lengths. Behind it: the stream's length.
    private static let tableOffset = 5
    private static let prefixBytes = 9
    /// Below this many bytes the states of all lanes would weigh too much.
    private static let leastBytesForManyLanes = 4096

    private let kernels: ck_kernels
    private let zstd: Zstd
    private let counts: UnsafeMutablePointer<UInt32>
    private let shares: UnsafeMutablePointer<ck_rans_share>
    private let decoding: UnsafeMutablePointer<UInt32>
    /// The encoder's stream, which grows from its end.
    private let stream: UnsafeMutableRawBufferPointer
    private let packedTable: UnsafeMutableRawBufferPointer

    init(_ kernels: ck_kernels, _ zstd: Zstd, maximumTokens: Int) {
        self.kernels = kernels
        self.zstd = zstd
        let entries = TokenCoder.maximumContexts * TokenCoder.maximumStride
        counts = .allocate(capacity: 4 * entries)
        shares = .allocate(capacity: entries)
        decoding = .allocate(capacity: TokenCoder.maximumContexts << TokenCoder.precisions.upperBound)
        stream = .allocate(byteCount: 4 * 32 + 2 * maximumTokens + 16, alignment: 64)
        packedTable = .allocate(byteCount: TokenCoder.maximumContexts * 258, alignment: 64)
    }

    func deallocate() {
        counts.deallocate()
        shares.deallocate()
        decoding.deallocate()
        stream.deallocate()
        packedTable.deallocate()
    }

    /// Entries from one context to the next: no multiple of 64, so that contexts do not share cache lines' places.
    private static func stride(_ tokens: Int) -> Int { tokens + 4 }
    private static let maximumStride = 256 + 4

    /// The finest precision whose decoding tables stay in the processor's cache.
    static func precision(contexts: Int) -> Int { contexts <= 4 ? 12 : contexts <= 8 ? 11 : 10 }

    /// Writes `count` tokens, each below `alphabet`, in contexts below `contexts`.
    ///
    /// - Parameter expectedBytes: roughly what they will take.
    /// - Returns: bytes written, or nil when they do not fit.
    func encode(
        _ tokens: UnsafePointer<UInt8>, _ contextOfToken: UnsafePointer<UInt8>, count: Int, alphabet: Int, contexts: Int,
        precision: Int, expectedBytes: Int, into room: UnsafeMutableRawBufferPointer
    ) -> Int? {
        let stride = TokenCoder.stride(alphabet)
        counts.update(repeating: 0, count: 4 * contexts * stride)
        ck_count_tokens(tokens, contextOfToken, count, stride, counts, contexts * stride)
        var table: [UInt8] = []
        table.reserveCapacity(contexts * 64)
        FrequencyTable.make(counts, contexts: contexts, stride: stride, precision: precision, shares: shares, into: &table)
        let end = stream.baseAddress!.assumingMemoryBound(to: UInt8.self) + stream.count
        let lanes = expectedBytes < TokenCoder.leastBytesForManyLanes ? ck_rans_few_lanes : ck_rans_lanes
        let streamBytes = kernels.rans_encode(
            tokens, contextOfToken, count, stride, shares, Int32(precision), Int32(lanes), end)

        let tableBytes = table.withUnsafeBytes { table in
            let count = zstd.compress(table, into: packedTable, mode: .entropy) ?? table.count
            return min(count, table.count)
        }
        guard room.count >= TokenCoder.prefixBytes + tableBytes + streamBytes else { return nil }
        room[0] = UInt8(lanes)
        room.storeBytes(of: UInt16(table.count).littleEndian, toByteOffset: 1, as: UInt16.self)
        room.storeBytes(of: UInt16(tableBytes).littleEndian, toByteOffset: 3, as: UInt16.self)
        let isPacked = tableBytes < table.count
        table.withUnsafeBytes { table in
            UnsafeMutableRawBufferPointer(rebasing: room[TokenCoder.tableOffset...]).copyMemory(
                from: isPacked ? UnsafeRawBufferPointer(rebasing: packedTable[..<tableBytes]) : table)
        }
        room.storeBytes(of: UInt32(streamBytes).littleEndian, toByteOffset: TokenCoder.tableOffset + tableBytes, as: UInt32.self)
        UnsafeMutableRawBufferPointer(rebasing: room[(TokenCoder.prefixBytes + tableBytes)...]).copyMemory(
            from: UnsafeRawBufferPointer(start: end - streamBytes, count: streamBytes))
        return TokenCoder.prefixBytes + tableBytes + streamBytes
    }

    /// Reads `count` tokens.
    ///
    /// - Returns: bytes read from the start of `bytes`.
    func decode(
        _ bytes: UnsafeRawBufferPointer, _ contextOfToken: UnsafePointer<UInt8>, count: Int, alphabet: Int, contexts: Int,
        precision: Int, into tokens: UnsafeMutablePointer<UInt8>
    ) throws(CodecError) -> Int {
        guard bytes.count >= TokenCoder.prefixBytes else { throw CodecError(.malformed, "tokens are cut short") }
        let lanes = Int(bytes[0])
        guard lanes == ck_rans_lanes || lanes == ck_rans_few_lanes else { throw CodecError(.malformed, "\(lanes) lanes") }
        let rawBytes = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt16.self)))
        let tableBytes = Int(UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 3, as: UInt16.self)))
        guard rawBytes <= packedTable.count, tableBytes <= rawBytes, tableBytes <= bytes.count - TokenCoder.prefixBytes else {
            throw CodecError(.malformed, "a table of \(rawBytes) bytes in \(tableBytes)")
        }
        var table = UnsafeRawBufferPointer(rebasing: bytes[TokenCoder.tableOffset..<(TokenCoder.tableOffset + tableBytes)])
        if tableBytes < rawBytes {
            let target = UnsafeMutableRawBufferPointer(rebasing: packedTable[..<rawBytes])
            try zstd.decompress(table, into: target)
            table = UnsafeRawBufferPointer(target)
        }
        try FrequencyTable.read(table, contexts: contexts, tokens: alphabet, precision: precision, into: decoding)
        let streamBytes = Int(
            UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: TokenCoder.tableOffset + tableBytes, as: UInt32.self)))
        let start = TokenCoder.prefixBytes + tableBytes
        guard streamBytes <= bytes.count - start else { throw CodecError(.malformed, "a token stream reaches past its block") }
        let stream = (bytes.baseAddress! + start).assumingMemoryBound(to: UInt8.self)
        guard kernels.rans_decode(
            stream, streamBytes, Int32(lanes), decoding, Int32(precision), contextOfToken, count, tokens) == 0
        else {
            throw CodecError(.malformed, "a token stream of \(streamBytes) bytes does not hold \(count) tokens")
        }
        return start + streamBytes
    }
}
