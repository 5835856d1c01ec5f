/// Byte-pair encoding: from a word to its tokens.
///
/// A word starts as single characters (bytes, in byte-level models); then, again and again, the two neighbours whose
/// merge has the lowest rank become one, the leftmost such two first. Sennrich et al., 2016, "Neural Machine
/// Translation of Rare Words with Subword Units".
struct BytePairModel: Sendable {
    let vocabulary: Vocabulary
    /// The rank of the merge of two tokens.
    let merges: PairTable
    /// The result of each merge by rank.
    let products: [Int32]
    /// What stands for a character that has no token; nil leaves such characters out.
    let unknown: Int32?
    /// One unknown token for several such characters in a row.
    let fusesUnknown: Bool
    /// The tokens `<0x00>` to `<0xFF>` that stand for the bytes of a character without a token; -1 for a missing one.
    let byteTokens: [Int32]?
    /// Whether a word that is a token is that token, whatever merging would make of it.
    let ignoresMerges: Bool
    /// Tokens of the single bytes, in a byte-level model.
    private let leaves: [Int32]
    private let joins: CharacterJoins?

    init(
        vocabulary: Vocabulary, merges: PairTable, products: [Int32], unknown: Int32?, fusesUnknown: Bool,
        byteTokens: [Int32]?, ignoresMerges: Bool
    ) {
        (self.vocabulary, self.merges, self.products) = (vocabulary, merges, products)
        (self.unknown, self.fusesUnknown) = (unknown, fusesUnknown)
        (self.byteTokens, self.ignoresMerges) = (byteTokens, ignoresMerges)
        if vocabulary.isByteLevel {
            leaves = (UInt8.min...UInt8.max).map { byte in [byte].withUnsafeBufferPointer { vocabulary.id($0) } }
            joins = nil
        } else {
            leaves = []
            var joins = CharacterJoins()
            vocabulary.forEach { joins.add($0) }
            self.joins = joins
        }
    }

    /// Appends the tokens of one word.
    ///
    /// - Complexity: O(n log n) in the bytes of the word.
    func encode(_ word: UnsafeBufferPointer<UInt8>, _ scratch: inout EncodingScratch, into ids: inout [Int32]) {
        if ignoresMerges {
            let id = vocabulary.id(word)
            if id >= 0 {
                ids.append(id)
                return
            }
        }
        guard let joins else {
            encodeCached(word, &scratch, into: &ids)
            return
        }
        var (start, index, last) = (0, 0, UInt32.max)
        while index < word.count {
            let (scalar, length) = UTF8Text.scalar(word, at: index)
            if last != .max, joins.separates(last, scalar) {
                encodeCached(UnsafeBufferPointer(rebasing: word[start..<index]), &scratch, into: &ids)
                start = index
            }
            last = scalar
            index &+= length
        }
        encodeCached(UnsafeBufferPointer(rebasing: word[start...]), &scratch, into: &ids)
    }

    @inline(__always)
    private func encodeCached(
        _ word: UnsafeBufferPointer<UInt8>, _ scratch: inout EncodingScratch, into ids: inout [Int32]
    ) {
        guard word.count <= WordCache.longestWord else {
            merge(word, &scratch, into: &ids)
            return
        }
        let hash = ByteTable.hash(word)
        if scratch.cache.append(word, hash, to: &ids) { return }
        let start = ids.count
        merge(word, &scratch, into: &ids)
        scratch.cache.insert(word, hash, ids[start...])
    }

    private func merge(_ word: UnsafeBufferPointer<UInt8>, _ scratch: inout EncodingScratch, into ids: inout [Int32]) {
        scratch.merger.symbols.removeAll(keepingCapacity: true)
        if vocabulary.isByteLevel, unknown == nil {
            for byte in word where leaves[Int(byte)] >= 0 { scratch.merger.symbols.append(leaves[Int(byte)]) }
        } else {
            appendCharacters(of: word, to: &scratch.merger.symbols)
        }
        scratch.merger.merge(merges, products)
        ids.append(contentsOf: scratch.merger.symbols)
    }

    /// A word's characters as tokens, before any merge.
    private func appendCharacters(of word: UnsafeBufferPointer<UInt8>, to symbols: inout [Int32]) {
        var pending = false
        var index = 0
        while index < word.count {
            let length = vocabulary.isByteLevel ? 1 : UTF8Text.scalar(word, at: index).length
            let bytes = UnsafeBufferPointer(rebasing: word[index..<index + length])
            index += length
            let id = vocabulary.id(bytes)
            if id >= 0 {
                if pending { symbols.append(unknown!) }
                pending = false
                symbols.append(id)
            } else if let byteTokens, bytes.allSatisfy({ byteTokens[Int($0)] >= 0 }) {
                // A pending unknown token comes after these bytes: the library writes it late, and so do we.
                for byte in bytes { symbols.append(byteTokens[Int(byte)]) }
            } else if unknown != nil {
                if pending, !fusesUnknown { symbols.append(unknown!) }
                pending = true
            }
        }
        if pending { symbols.append(unknown!) }
    }
}
