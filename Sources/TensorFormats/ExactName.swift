#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// A name compared, ordered and hashed by its UTF-8 bytes.
///
/// `String` compares by canonical equivalence: a precomposed and a decomposed "e acute" are equal to it. To
/// safetensors, zip and pickle they are different names, so tables of names must not be keyed by `String`.
public struct ExactName: Hashable, Comparable, Sendable {
    public let string: String

    public init(_ string: String) {
        self.string = string
    }

    public static func == (left: ExactName, right: ExactName) -> Bool {
        left.string.utf8.count == right.string.utf8.count && left.compare(right) == 0
    }

    public static func < (left: ExactName, right: ExactName) -> Bool {
        left.compare(right) < 0
    }

    public func hash(into hasher: inout Hasher) {
        withBytes { hasher.combine(bytes: $0) }
    }

    /// Negative, zero or positive, as `memcmp`; a prefix comes before what it begins.
    private func compare(_ other: ExactName) -> Int {
        withBytes { mine in
            other.withBytes { theirs in
                let common = min(mine.count, theirs.count)
                if common > 0 {
                    let order = memcmp(mine.baseAddress!, theirs.baseAddress!, common)
                    if order != 0 { return Int(order) }
                }
                return mine.count - theirs.count
            }
        }
    }

    private func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        string.utf8.withContiguousStorageIfAvailable { body(UnsafeRawBufferPointer($0)) }
            ?? Array(string.utf8).withUnsafeBytes { body($0) }
    }
}
