internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// Which of a block's ancestors it is packed against.
struct BaseChoice {
    /// The store's limit: no block lies deeper.
    let depthLimit: UInt8

    /// The bases for `raw`, whose block in the snapshot before is `base`; none when it should be packed against nothing.
    ///
    /// Below the depth limit that is the block before, with its own base for prediction. At the limit the chain has to be
    /// cut: either at a *keyframe*, a dense block from which a whole new chain can hang, or by going back to an ancestor, from
    /// which a shorter one can. Each is judged by what a block of the run then costs on average, taking the blocks to come to
    /// cost what the last one did.
    ///
    /// A base that is damaged or unreadable is passed over: the new block does not hang on it.
    func bases(
        for raw: UnsafeRawBufferPointer, element: DType, base: ContentID, _ transaction: borrowing ReadTransaction,
        _ tables: Tables, _ lane: CodecLane
    ) throws -> [BaseBlock] {
        guard let count = try? transaction.count(tables, .block, base), Int(count.rawBytes) == raw.count, depthLimit > 0 else {
            return []
        }
        let isAtLimit = count.depth >= depthLimit
        guard let chain = try? BlockChain(base, transaction, tables),
            let blocks = try? chain.decode(count: raw.count, transaction, tables, lane, keepsAll: isAtLimit)
        else { return [] }
        if !isAtLimit { return blocks.suffix(2).reversed() }

        let limit = Double(depthLimit)
        let next = Double(count.packedBytes)
        var best: [BaseBlock] = []
        var cost = Double.infinity
        for index in blocks.indices where blocks[index].depth < depthLimit {
            let bases = Array(blocks[max(0, index - 1)...index].reversed())
            let expected = lane.coder.expectedBytes(raw, element: element, bases: bases)
            if index == 0 { cost = (Double(expected.dense) + limit * next) / (limit + 1) }
            guard let delta = expected.delta else { return [] }
            let room = limit - Double(blocks[index].depth)
            let average = (Double(delta) + (room - 1) * next) / room
            if average < cost { (best, cost) = (bases, average) }
        }
        return best
    }
}
