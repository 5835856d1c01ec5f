internal import BlockCodec
internal import LMDB
internal import Synchronization

extension Verifier {
    /// Checks every block's checksum; in depth, decodes and hashes it.
    func checkBlocks(_ generation: Generation) throws -> (Int, UInt64) {
        var ids: [ContentID] = []
        let outer = try generation.environment.beginRead()
        var total: UInt64 = 0
        try outer.scan(generation.tables[.block]) { key, record in
            if key.byteCount == ContentID.byteCount { ids.append(key.withUnsafeBytes { ContentID($0) }) }
            total += UInt64(record.byteCount)
            return true
        }
        let lanes = try Lanes { try CodecLane() }
        let found = Mutex<[(ContentID, String)]>([])
        let rawBytes = Mutex<UInt64>(0)
        let batch = 512
        var doneBytes: UInt64 = 0
        for start in stride(from: 0, to: ids.count, by: batch) {
            try monitor.checkCancelled()
            let part = ids[start..<min(start + batch, ids.count)]
            let packedBytes = Mutex<UInt64>(0)
            let depth = depth
            try lanes.run { lane, next in
                let transaction = try generation.environment.beginRead()
                while let index = next(part.count) {
                    let id = part[part.startIndex + index]
                    let (problem, raw, packed) = try Verifier.check(id, transaction, generation.tables, lane, depth)
                    if let problem { found.withLock { $0.append((id, problem)) } }
                    rawBytes.withLock { $0 += raw }
                    packedBytes.withLock { $0 += packed }
                }
            }
            doneBytes += packedBytes.withLock { $0 }
            progress(ByteProgress(doneBytes: doneBytes, totalBytes: total))
        }
        for (id, problem) in found.withLock({ $0 }) { damaged[id] = problem }
        // What is packed against a damaged block is harmed by it: tell the cause from what follows.
        for (id, problem) in found.withLock({ $0 }) where !problem.contains("checksum") {
            guard let base = try? outer.bases(generation.tables, of: id).first(where: { damaged[$0] != nil }) else { continue }
            damaged[id] = "block \(id) is packed against block \(base), which is damaged"
        }
        return (ids.count, rawBytes.withLock { $0 })
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
