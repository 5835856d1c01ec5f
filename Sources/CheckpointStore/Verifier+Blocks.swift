internal import BlockCodec
internal import LMDB

extension Verifier {
    /// Checks every block's checksum; in depth, decodes and hashes it.
    func checkBlocks(_ generation: Generation) throws -> (Int, UInt64) {
        let outer = try generation.environment.beginRead()
        let lanes = try Lanes { try CodecLane() }
        let found = Locked<[(ContentID, String)]>([])
        let rawBytes = Locked<UInt64>(0)
        let batch = 512
        var (blocks, doneBytes) = (0, UInt64(0))
        // The key that the next batch begins with: no key is less than the first one here.
        var next: [UInt8]? = [0]
        while let start = next {
            try monitor.checkCancelled()
            var part: [ContentID] = []
            next = nil
            try outer.scan(generation.tables[.block], from: start) { key, _ in
                guard part.count < batch else {
                    next = key.withUnsafeBytes { Array($0) }
                    return false
                }
                if key.byteCount == ContentID.byteCount { part.append(key.withUnsafeBytes { ContentID($0) }) }
                return true
            }
            let (ids, depth) = (part, depth)
            let packedBytes = Locked<UInt64>(0)
            try lanes.run { lane, next in
                let transaction = try generation.environment.beginRead()
                while let index = next(ids.count) {
                    let (problem, raw, packed) = try Verifier.check(ids[index], transaction, generation.tables, lane, depth)
                    if let problem { found.withLock { $0.append((ids[index], problem)) } }
                    rawBytes.withLock { $0 += raw }
                    packedBytes.withLock { $0 += packed }
                }
            }
            blocks += ids.count
            doneBytes += packedBytes.withLock { $0 }
            progress(ByteProgress(doneBytes: doneBytes, totalBytes: blockBytes))
        }
        for (id, problem) in found.withLock({ $0 }) { damaged[id] = problem }
        // What is packed against a damaged block is harmed by it: tell the cause from what follows.
        for (id, problem) in found.withLock({ $0 }) where !problem.contains("checksum") {
            guard let base = try? outer.bases(generation.tables, of: id).first(where: { damaged[$0] != nil }) else { continue }
            damaged[id] = "block \(id) is packed against block \(base), which is damaged"
        }
        return (blocks, rawBytes.withLock { $0 })
    }

    private static func check(
        _ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, _ depth: VerifyDepth
    ) throws -> (problem: String?, raw: UInt64, packed: UInt64) {
        let key = id.bytes
        guard let record = try transaction.get(tables[.block], key) else { return (nil, 0, 0) }
        // A damaged count is reported by itself.
        let count = try? transaction.count(tables, .block, id)
        return record.withUnsafeBytes { record in
            do {
                let packed = try Checksum.open(record, .block, key: key)
                let header = try PackedHeader(packed)
                if let count, Int(count.rawBytes) != header.rawCount || Int(count.packedBytes) != packed.count
                    || count.depth != header.depth || count.codec != header.codec
                {
                    return ("block \(id) is not what its count says", 0, UInt64(record.count))
                }
                guard depth == .full else { return (nil, 0, UInt64(record.count)) }
                guard header.rawCount <= BlockCoder.maximumBlockBytes else {
                    return ("block \(id) says it holds \(header.rawCount) bytes", 0, UInt64(record.count))
                }
                let raw = try transaction.blockBytes(tables, id, count: header.rawCount, lane)
                let isRight = ContentID.hash(of: raw) == id
                return (isRight ? nil : "block \(id) does not match its id", UInt64(header.rawCount), UInt64(record.count))
            } catch let error as StoreError {
                return (error.reason.replacing("store: ", with: ""), 0, UInt64(record.count))
            } catch {
                return ("block \(id): \(error)", 0, UInt64(record.count))
            }
        }
    }
}
