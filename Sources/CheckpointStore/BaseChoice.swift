internal import BlockCodec
internal import LMDB

/// Which of a block's ancestors it is packed against.
struct BaseChoice {
    /// The store's limit: no block lies deeper.
    let depthLimit: UInt8

    /// The bases for `raw`, whose block in the snapshot before is `base`; none when it should be packed against nothing.
    ///
    /// Below the depth limit that is the block before, with its own base for prediction. At the limit the chain has to be
    /// cut: either at a *keyframe*, a dense block from which a whole new chain can hang, or by going back to an ancestor, from
    /// which a shorter one can. Each is judged by what a block of the run then costs on average, taking the blocks to come to
    /// cost what this one would on top of the chain.
    ///
    /// A base that is damaged or unreadable is passed over: the new block does not hang on it.
    func bases(
        for raw: UnsafeRawBufferPointer, _ job: BlockJob, base: ContentID, _ transaction: borrowing ReadTransaction,
        _ tables: Tables, _ lane: CodecLane
    ) throws -> [BaseBlock] {
        guard let count = try? transaction.count(tables, .block, base), Int(count.rawBytes) == raw.count, depthLimit > 0 else {
            return []
        }
        let isAtLimit = count.depth >= depthLimit
        if !isAtLimit, let blocks = try? copied(job, base, count, transaction, tables, lane) { return blocks }
        guard let chain = try? BlockChain(base, transaction, tables),
            let blocks = try? chain.decode(count: raw.count, transaction, tables, lane, keepsAll: isAtLimit)
        else { return [] }
        if !isAtLimit { return blocks.suffix(2).reversed() }

        let limit = Double(depthLimit)
        // What the block would take on top of the chain, if it were not full: as the next ones will.
        let onTop = lane.coder.expectedBytes(raw, element: job.element, bases: blocks.suffix(2).reversed())
        let next = Double(min(onTop.dense, onTop.delta ?? onTop.dense))
        var best: [BaseBlock] = []
        var cost = Double.infinity
        for index in blocks.indices where blocks[index].depth < depthLimit {
            let bases = Array(blocks[max(0, index - 1)...index].reversed())
            let expected = lane.coder.expectedBytes(raw, element: job.element, bases: bases)
            if index == 0 { cost = (Double(expected.dense) + limit * next) / (limit + 1) }
            guard let delta = expected.delta else { return [] }
            let room = limit - Double(blocks[index].depth)
            let average = (Double(delta) + (room - 1) * next) / room
            if average < cost { (best, cost) = (bases, average) }
        }
        return best
    }

    /// The base and its own first base from copies of them, where there are any: to read and hash them is quicker than to decode
    /// their chains. Nil when the base's copy is not what it should be.
    private func copied(
        _ job: BlockJob, _ base: ContentID, _ count: CountRecord, _ transaction: borrowing ReadTransaction, _ tables: Tables,
        _ lane: CodecLane
    ) throws -> [BaseBlock]? {
        guard let copy = job.baseCopy else { return nil }
        let first = UnsafeMutableRawBufferPointer(rebasing: lane.copyBuffers[0][..<job.byteCount])
        guard copy.file.read(copy.ranges, into: first) else { return nil }
        let previous = try transaction.bases(tables, of: base).first
        let second = UnsafeMutableRawBufferPointer(rebasing: lane.copyBuffers[1][..<job.byteCount])
        var hasSecond = false
        if previous != nil, let copy = job.previousCopy { hasSecond = copy.file.read(copy.ranges, into: second) }
        let firstID: ContentID
        if hasSecond {
            let secondID: ContentID
            (firstID, secondID) = ContentID.hashes(of: UnsafeRawBufferPointer(first), UnsafeRawBufferPointer(second))
            // The block before may have been packed against another ancestor: then this is no sign of a changed file.
            hasSecond = secondID == previous
        } else {
            firstID = ContentID.hash(of: UnsafeRawBufferPointer(first))
        }
        guard firstID == base else {
            copy.file.markStale()
            return nil
        }
        // The bytes at hand are right; those that a reader will decode must be too.
        try BlockChain(base, transaction, tables).check(transaction, tables)
        let block = BaseBlock(id: base.bytes, bytes: UnsafeRawBufferPointer(first), depth: count.depth)
        guard let previous else { return [block] }
        if hasSecond { return [block, BaseBlock(id: previous.bytes, bytes: UnsafeRawBufferPointer(second), depth: 0)] }
        let chain = try BlockChain(previous, transaction, tables).decode(count: job.byteCount, transaction, tables, lane)
        return [block] + chain.suffix(1)
    }
}
