internal import CKernels

/// How often each token occurs in each context, rounded so that a table is short and its frequencies add up to a power of
/// two, as rANS needs them.
///
/// A frequency is one byte, exact up to 8 and with two bits below its top one from there. The commonest token of
/// a context has no byte of its own: it takes what the others leave.
enum FrequencyTable {
    /// The frequency that a byte stands for: 0 to 7, 8, 10, 12, 14, 16, 20, ...
    static func frequency(_ code: UInt8) -> Int {
        code < 8 ? Int(code) : (4 | Int(code & 3)) << (Int(code >> 2) - 1)
    }

    /// The code whose frequency is nearest to `frequency`, at least 1.
    static func code(_ frequency: Int) -> UInt8 {
        guard frequency > 7 else { return UInt8(max(1, frequency)) }
        let top = Int.bitWidth - 1 - frequency.leadingZeroBitCount
        let below = UInt8(4 * (top - 1) + (frequency >> (top - 2)) & 3)
        let nearer = FrequencyTable.frequency(below) + FrequencyTable.frequency(below + 1) <= 2 * frequency
        return nearer ? below + 1 : below
    }

    /// Works out the shares of the tokens of `contexts` contexts and appends their table to `bytes`.
    ///
    /// - Parameters:
    ///   - counts: occurrences, `stride` to a context.
    ///   - shares: the same layout.
    static func make(
        _ counts: UnsafePointer<UInt32>, contexts: Int, stride: Int, precision: Int,
        shares: UnsafeMutablePointer<ck_rans_share>, into bytes: inout [UInt8]
    ) {
        for context in 0..<contexts {
            make(counts + context * stride, stride: stride, total: 1 << precision, shares: shares + context * stride, &bytes)
        }
    }

    private static func make(
        _ counts: UnsafePointer<UInt32>, stride: Int, total: Int, shares: UnsafeMutablePointer<ck_rans_share>,
        _ bytes: inout [UInt8]
    ) {
        var sum = 0
        var last = 0
        var commonest = 0
        for token in 0..<stride where counts[token] > 0 {
            sum += Int(counts[token])
            last = token
            if counts[token] > counts[commonest] { commonest = token }
        }
        bytes.append(UInt8(last))
        bytes.append(UInt8(commonest))
        let first = bytes.count
        var others = 0
        for token in 0...last {
            let isCoded = token != commonest && counts[token] > 0
            let code = isCoded ? FrequencyTable.code(Int(counts[token]) * total / sum) : 0
            others += frequency(code)
            bytes.append(code)
        }
        // Rare tokens that were rounded up can take more than there is: the largest give way.
        while others >= total {
            let largest = (first..<bytes.count).max { bytes[$0] < bytes[$1] }!
            others += frequency(bytes[largest] - 1) - frequency(bytes[largest])
            bytes[largest] -= 1
        }
        var start = 0
        for token in 0...last {
            let share = token == commonest ? total - others : frequency(bytes[first + token])
            shares[token] = ck_rans_share(frequency: UInt16(share), start: UInt16(truncatingIfNeeded: start))
            start += share
        }
    }

    /// Reads the table of `contexts` contexts and builds the decoder's, 1 << precision entries each.
    ///
    /// - Parameter tokens: how many there are: a table must not name others.
    static func read(
        _ bytes: UnsafeRawBufferPointer, contexts: Int, tokens: Int, precision: Int,
        into table: UnsafeMutablePointer<UInt32>
    ) throws(CodecError) {
        var offset = 0
        var failure: CodecError?
        withUnsafeTemporaryAllocation(of: UInt16.self, capacity: tokens) { frequencies in
            for context in 0..<contexts {
                do throws(CodecError) {
                    let count = try read(bytes, at: &offset, tokens: tokens, total: 1 << precision, into: frequencies)
                    ck_rans_decoding_make(frequencies.baseAddress!, Int32(count), Int32(precision), table + (context << precision))
                } catch {
                    failure = error
                    return
                }
            }
        }
        if let failure { throw failure }
        guard offset == bytes.count else { throw CodecError(.malformed, "\(bytes.count - offset) bytes follow the frequencies") }
    }

    /// One context's frequencies. Returns how many.
    private static func read(
        _ bytes: UnsafeRawBufferPointer, at offset: inout Int, tokens: Int, total: Int,
        into frequencies: UnsafeMutableBufferPointer<UInt16>
    ) throws(CodecError) -> Int {
        guard bytes.count - offset >= 2 else { throw CodecError(.malformed, "frequencies are cut short") }
        let count = Int(bytes[offset]) + 1
        let commonest = Int(bytes[offset + 1])
        offset += 2
        guard count <= tokens, commonest < count, count <= bytes.count - offset, bytes[offset + commonest] == 0 else {
            throw CodecError(.malformed, "frequencies of \(count) tokens, \(commonest) the commonest")
        }
        var others = 0
        for token in 0..<count {
            let code = bytes[offset + token]
            guard code <= maximumCode else { throw CodecError(.malformed, "frequency code \(code)") }
            frequencies[token] = UInt16(frequency(code))
            others += frequency(code)
        }
        guard others < total else { throw CodecError(.malformed, "frequencies add up to \(others) of \(total)") }
        frequencies[commonest] = UInt16(total - others)
        offset += count
        return count
    }

    /// Stands for 4,096.
    static let maximumCode: UInt8 = 44
}
