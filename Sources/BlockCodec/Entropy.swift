#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Order-0 entropies of small samples.
enum Entropy {
    /// n log2 n for n up to 4,096: samples are no larger.
    private static let table: [Double] = (0...4096).map { $0 == 0 ? 0 : Double($0) * log2(Double($0)) }

    private static func nLogN(_ count: Int) -> Double {
        count < table.count ? table[count] : Double(count) * log2(Double(count))
    }

    /// Bits that `total` symbols with these counts take together.
    static func bits(_ counts: UnsafePointer<UInt32>, _ symbols: Int, _ total: Int) -> Double {
        var sum = nLogN(total)
        for symbol in 0..<symbols where counts[symbol] > 0 { sum -= nLogN(Int(counts[symbol])) }
        return sum
    }
}
