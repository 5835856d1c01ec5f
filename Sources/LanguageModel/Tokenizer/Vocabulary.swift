internal import TensorFormats

/// The tokens of a model: their bytes, and the numbers they have.
///
/// A byte-level model writes its tokens in an alphabet of 256 characters, one a byte. Here they are the bytes
/// themselves, which is what a text consists of. A token with any other character can only stand as an added token;
/// it keeps its text, in a table of its own, since `" "` and `"Ġ"` would be the same bytes.
struct Vocabulary: Sendable {
    let isByteLevel: Bool
    /// All tokens' bytes, one after the other; entry e has `starts[e] ..< starts[e + 1]`.
    private(set) var arena: [UInt8] = []
    private var starts: [UInt32] = [0]
    /// Each entry's id.
    private(set) var ids: [Int32] = []
    /// Entries by id; -1 where no token has that id. Made by `finish`.
    private var entries: [Int32] = []
    private var table: ByteTable
    private var literals = ByteTable(capacity: 0)

    init(isByteLevel: Bool, capacity: Int) {
        self.isByteLevel = isByteLevel
        table = ByteTable(capacity: capacity)
    }

    var count: Int { ids.count }
    /// One more than the greatest id.
    var idCount: Int { entries.count }

    /// Adds the token that the scanner reads next.
    ///
    /// - Returns: false where it is there already.
    mutating func append(from scanner: inout JSONScanner) throws(FormatError) -> Bool {
        let start = arena.count
        try scanner.appendString(to: &arena)
        // Offsets have 32 bits.
        guard arena.count < Int(UInt32.max) else { throw scanner.failure("a vocabulary of more than 4 GiB") }
        let isLiteral = isByteLevel && !ByteAlphabet.decode(&arena, from: start)
        starts.append(UInt32(arena.count))
        ids.append(-1)
        return insert(ids.count - 1, from: start, isLiteral: isLiteral)
    }

    private mutating func insert(_ entry: Int, from start: Int, isLiteral: Bool) -> Bool {
        // Retained, not copied.
        let (arena, starts) = (arena, starts)
        return arena.withUnsafeBufferPointer { arena in
            starts.withUnsafeBufferPointer { starts in
                func stored(_ entry: Int) -> UnsafeBufferPointer<UInt8> {
                    UnsafeBufferPointer(rebasing: arena[Int(starts[entry])..<Int(starts[entry + 1])])
                }
                func insert(into table: inout ByteTable) -> Bool {
                    let bytes = UnsafeBufferPointer(rebasing: arena[start...])
                    let hash = ByteTable.hash(bytes)
                    guard table.find(bytes, hash: hash, entry: stored) == nil else { return false }
                    table.insert(entry, hash: hash)
                    return true
                }
                return isLiteral ? insert(into: &literals) : insert(into: &table)
            }
        }
    }

    /// Gives the last added token its id.
    mutating func setLastID(_ id: Int32) { ids[ids.count - 1] = id }

    /// Makes the way from ids back to tokens.
    ///
    /// - Parameter idCount: greater than every id.
    /// - Returns: an id that two tokens have, if there is one.
    mutating func finish(idCount: Int) -> Int32? {
        entries = [Int32](repeating: -1, count: idCount)
        for (entry, id) in ids.enumerated() {
            if entries[Int(id)] >= 0 { return id }
            entries[Int(id)] = Int32(entry)
        }
        return nil
    }

    /// The id of the token with these bytes, as a text has them; -1 where none has. O(n) in the bytes.
    @inline(__always)
    func id(_ bytes: UnsafeBufferPointer<UInt8>) -> Int32 {
        entry(bytes).map { ids[$0] } ?? -1
    }

    @inline(__always)
    func entry(_ bytes: UnsafeBufferPointer<UInt8>) -> Int? { find(bytes, in: table) }

    @inline(__always)
    private func find(_ bytes: UnsafeBufferPointer<UInt8>, in table: ByteTable) -> Int? {
        let hash = ByteTable.hash(bytes)
        return arena.withUnsafeBufferPointer { arena in
            starts.withUnsafeBufferPointer { starts in
                table.find(bytes, hash: hash) {
                    UnsafeBufferPointer(rebasing: arena[Int(starts[$0])..<Int(starts[$0 &+ 1])])
                }
            }
        }
    }

    /// Whether each single byte is a token.
    var hasAllBytes: Bool {
        (UInt8.min...UInt8.max).allSatisfy { byte in [byte].withUnsafeBufferPointer { id($0) } >= 0 }
    }

    /// The entry whose text in the file is this.
    func entry(text: [UInt8]) -> Int? {
        var bytes = text
        let isLiteral = isByteLevel && !ByteAlphabet.decode(&bytes, from: 0)
        return bytes.withUnsafeBufferPointer { find($0, in: isLiteral ? literals : table) }
    }

    func id(text: [UInt8]) -> Int32? { entry(text: text).map { ids[$0] } }

    /// Whether an entry's bytes are these. O(n).
    @inline(__always)
    func isEntry(_ entry: Int, _ bytes: UnsafeBufferPointer<UInt8>) -> Bool {
        arena.withUnsafeBufferPointer {
            equal(UnsafeBufferPointer(rebasing: $0[Int(starts[entry])..<Int(starts[entry + 1])]), bytes)
        }
    }

    /// Calls `body` with every token's bytes.
    func forEach(_ body: (UnsafeBufferPointer<UInt8>) -> Void) {
        arena.withUnsafeBufferPointer { arena in
            for entry in 0..<count {
                body(UnsafeBufferPointer(rebasing: arena[Int(starts[entry])..<Int(starts[entry + 1])]))
            }
        }
    }

    /// The bytes of the token with this id; nil where none has it.
    func bytes(_ id: Int32) -> ArraySlice<UInt8>? { entry(id).map { bytes(entry: $0) } }

    /// The token with this id as the file writes it; nil where none has it. O(n) in the bytes.
    func text(_ id: Int32) -> [UInt8]? {
        guard let entry = entry(id) else { return nil }
        let bytes = Array(bytes(entry: entry))
        let isLiteral = isByteLevel && bytes.withUnsafeBufferPointer { find($0, in: literals) } == entry
        return isByteLevel && !isLiteral ? ByteAlphabet.encode(bytes) : bytes
    }

    private func entry(_ id: Int32) -> Int? {
        guard id >= 0, Int(id) < entries.count, entries[Int(id)] >= 0 else { return nil }
        return Int(entries[Int(id)])
    }

    private func bytes(entry: Int) -> ArraySlice<UInt8> { arena[Int(starts[entry])..<Int(starts[entry + 1])] }
}
