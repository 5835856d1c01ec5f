internal import BlockCodec
internal import LMDB
internal import Synchronization

/// How much of a store is checked.
public enum VerifyDepth: Sendable {
    /// Pages, the checksum of every record, counts and names: at disk speed, nothing decoded.
    case quick
    /// Besides, every block decoded and hashed, and every image compared with its blocks.
    case full
}

/// One thing wrong with a store.
public struct StoreProblem: Sendable, CustomStringConvertible {
    /// The page, record or file, and what is wrong with it.
    public var reason: String
    /// The snapshots it harms, as `run@step`; filled in for blocks, tensors and parts.
    public var snapshots: [String]
    /// Some of the tensors it harms.
    public var tensors: [String]

    init(_ reason: String) {
        self.reason = reason
        snapshots = []
        tensors = []
    }

    public var description: String {
        var text = reason
        if !snapshots.isEmpty { text += "; harms \(StoreProblem.list(snapshots))" }
        if !tensors.isEmpty { text += ", tensors \(StoreProblem.list(tensors))" }
        return text
    }

    private static func list(_ names: [String]) -> String {
        let shown = names.prefix(4).joined(separator: ", ")
        return names.count > 4 ? shown + " and \(names.count - 4) more" : shown
    }
}

/// What `verify` found.
public struct VerifyReport: Sendable {
    public var problems: [StoreProblem] = []
    public var snapshots = 0
    public var blocks = 0
    /// Raw bytes of the blocks that were decoded and hashed.
    public var bytes: UInt64 = 0
    public var images = 0
    public var pages: UInt64 = 0
    public var freePages: UInt64 = 0
    /// Staged by an ingest that is under way or was killed; released by the next writer.
    public var pending = 0
}

extension Store {
    /// Checks the store at `path`: its pages before LMDB opens them, then every record, count and name, then (`full`)
    /// every block and image.
    ///
    /// Takes no lock: what is committed when it starts is what is checked.
    /// - Throws: `.noStore`, `.interrupted`; damage is in the report, not thrown.
    /// - Complexity: O(bytes) on all processors; memory: 150 bytes for each block.
    public static func verify(
        _ path: String, depth: VerifyDepth, monitor: Monitor = Monitor(), progress: @escaping (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> VerifyReport {
        try throwingStoreErrors {
            guard let absolute = FileSystem.absolute(path), FileSystem.status(absolute + "/current") != nil else {
                throw StoreError(.noStore, "\(path): no store here", hint: "make one with: ckpt init \(path)")
            }
            var report = VerifyReport()
            do {
                guard try walkPages(absolute, &report) else { return report }
                let store = try Store.open(absolute)
                let verifier = Verifier(store: store, depth: depth, monitor: monitor, progress: progress)
                try verifier.run(&report)
            } catch let error as StoreError {
                guard error.code == .damaged else { throw error }
                report.problems.append(StoreProblem(error.reason))
            } catch let error as LMDBError {
                guard error.isDamage else { throw error }
                report.problems.append(StoreProblem("\(error)"))
            }
            return report
        }
    }

    /// Walks the pages; false when LMDB must not open them.
    private static func walkPages(_ path: String, _ report: inout VerifyReport) throws -> Bool {
        let data = Generation.path(path, try Generation.current(path)) + "/data.mdb"
        // A writer may reuse pages under a walk that holds no transaction: only damage that stays put is damage.
        var pages = try PageWalk.check(path: data)
        for _ in 0..<5 where !pages.problems.isEmpty {
            let again = try PageWalk.check(path: data)
            let isSame = again.transactionID == pages.transactionID
            pages = again
            if isSame { break }
        }
        report.pages = pages.livePages
        report.freePages = pages.freePages
        report.problems += pages.problems.map { StoreProblem("data.mdb: \($0)") }
        return pages.problems.isEmpty
    }
}

/// Checks the records of one consistent view of a store.
private final class Verifier {
    let store: Store
    let depth: VerifyDepth
    let monitor: Monitor
    let progress: (ByteProgress) -> Void

    /// What is wrong with a block, tensor or part, to be told with the snapshots it harms.
    private var damaged: [ContentID: String] = [:]
    /// Uses found by following the records down, to compare with the counts.
    private var uses: [Kind: [ContentID: UInt64]] = [:]
    private var tensors: [ContentID: TensorRecord] = [:]
    private var parts: [ContentID: PartManifest] = [:]
    private var problems: [StoreProblem] = []
    private var depthLimit: UInt8 = 0
    /// Raw bytes of each block, as its count says.
    private var rawSizes: [ContentID: UInt32] = [:]

    init(store: Store, depth: VerifyDepth, monitor: Monitor, progress: @escaping (ByteProgress) -> Void) {
        self.store = store
        self.depth = depth
        self.monitor = monitor
        self.progress = progress
    }

    func run(_ report: inout VerifyReport) throws {
        let generation = store.openGeneration
        let transaction = try generation.environment.beginRead()
        let tables = generation.tables
        depthLimit = try Superblock.read(transaction, tables).depthLimit
        try loadTensors(transaction, tables)
        try loadParts(transaction, tables)
        try followBases(transaction, tables)
        report.snapshots = try followSnapshots(transaction, tables)
        report.pending = try followPending(transaction, tables)
        try checkNames(transaction, tables)
        try checkCounts(transaction, tables)
        let (blocks, bytes) = try checkBlocks(generation)
        report.blocks = blocks
        report.bytes = bytes
        if depth == .full { report.images = try checkImages(transaction, tables) }
        try attribute(transaction, tables)
        report.problems += problems
    }

    private func use(_ kind: Kind, _ id: ContentID, by count: UInt64 = 1) {
        uses[kind, default: [:]][id, default: 0] += count
    }

    private func report(_ reason: String) { problems.append(StoreProblem(reason)) }

    /// The checked value of a record, or nil with the damage noted.
    private func open(_ kind: Kind, _ key: [UInt8], _ record: borrowing RawSpan) -> [UInt8]? {
        record.withUnsafeBytes { record in
            do {
                return Array(try Checksum.open(record, kind, key: key))
            } catch {
                let text = "\(kind) \(Checksum.name(kind, key)) does not match its checksum"
                if let id = try? ContentID(key) { damaged[id] = text } else { report(text) }
                return nil
            }
        }
    }

    private func forEach(
        _ kind: Kind, _ transaction: borrowing ReadTransaction, _ tables: Tables,
        _ body: (_ key: [UInt8], _ value: [UInt8]) throws -> Void
    ) throws {
        try transaction.scan(tables[kind]) { key, record in
            let key = key.withUnsafeBytes { Array($0) }
            guard let value = open(kind, key, record) else { return true }
            do {
                try body(key, value)
            } catch let error as StoreError {
                guard error.code == .damaged else { throw error }
                report("\(kind) \(Checksum.name(kind, key)): \(error.reason)")
            }
            return true
        }
    }

    private func loadTensors(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try forEach(.tensor, transaction, tables) { key, value in
            guard let id = try? ContentID(key) else { return report("tensor key of \(key.count) bytes") }
            guard ContentID.hash(of: value) == id, let record = try? TensorRecord(value, what: "tensor \(id)") else {
                damaged[id] = "tensor \(id) does not match its id"
                return
            }
            tensors[id] = record
            for block in record.blocks { use(.block, block) }
        }
    }

    private func loadParts(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try forEach(.part, transaction, tables) { key, value in
            guard let id = try? ContentID(key) else { return report("part key of \(key.count) bytes") }
            guard ContentID.hash(of: value) == id, let part = try? PartManifest(value, what: "part \(id)") else {
                damaged[id] = "part \(id) does not match its id"
                return
            }
            parts[id] = part
            for tensor in part.uses { use(.tensor, tensor) }
            for file in part.files { checkSizes(of: file, in: id) }
        }
    }

    /// Every storage and skeleton must be as long as the stored tensor that has its bytes.
    private func checkSizes(of file: PartManifest.File, in part: ContentID) {
        let skeletonBytes = file.skeletonRanges.reduce(0) { $0 + UInt64($1.count) }
        let pieces = file.storages.map { ($0.tensor, $0.length) } + (file.skeleton.map { [($0, skeletonBytes)] } ?? [])
        for (tensor, count) in pieces {
            if let record = tensors[tensor], record.grid.byteCount != count {
                report("part \(part): \(file.path) gives tensor \(tensor) \(count) bytes; it has \(record.grid.byteCount)")
            }
        }
    }

    private func followSnapshots(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> Int {
        var count = 0
        try forEach(.snapshot, transaction, tables) { key, value in
            guard let id = try? ContentID(key) else { return report("snapshot key of \(key.count) bytes") }
            count += 1
            guard let record = try? SnapshotRecord(value, what: "snapshot \(id)"),
                ContentID.hash(of: record.manifest.encoded()) == id
            else { return report("snapshot \(id) does not match its id") }
            let here = record.manifest.parts.filter { !record.dropped.contains($0.kind) }
            for part in here {
                use(.part, part.id)
                if let kind = parts[part.id]?.kind, kind != part.kind { report("snapshot \(id) takes \(kind) for \(part.kind)") }
            }
            let found = here.compactMap { parts[$0.id] }
            let sums = SnapshotRecord(manifest: record.manifest, parts: found)
            if record.dropped.isEmpty, found.count == here.count, sums != record {
                report("snapshot \(id): its sums of files, tensors or bytes are not those of its parts")
            }
        }
        try forEach(.step, transaction, tables) { key, value in
            let (run, step) = try StepKey.decode(key)
            let record = try StepRecord(value)
            use(.snapshot, record.snapshot)
            if try !transaction.contains(tables[.snapshot], record.snapshot.bytes) {
                report("\(run)@\(step): snapshot \(record.snapshot) is missing")
            }
        }
        return count
    }

    /// A base is used by each block packed against it, and lies at a lower depth.
    private func followBases(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try transaction.scan(tables[.block]) { key, record in
            guard let id = try? ContentID(key.withUnsafeBytes { Array($0) }) else { return true }
            try record.withUnsafeBytes { record in
                guard let packed = try? Checksum.unchecked(record, .block, key: id.bytes), let header = try? PackedHeader(packed),
                    let bases = try? PackedHeader.bases(in: packed)
                else { return }
                if header.depth > depthLimit { report("block \(id) lies at depth \(header.depth), past the limit of \(depthLimit)") }
                for base in bases.map({ ContentID($0) }) {
                    use(.block, base)
                    let depth = try transaction.count(tables, .block, base)?.depth
                    if let depth, depth >= header.depth { report("block \(id) is packed against \(base), which lies no lower") }
                }
            }
            return true
        }
    }

    private func followPending(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> Int {
        var count = 0
        try forEach(.pending, transaction, tables) { _, value in
            let pending = try Pending(value)
            count += 1
            for tensor in pending.tensors { use(.tensor, tensor) }
            for block in pending.blocks { use(.block, block) }
        }
        return count
    }

    private func checkNames(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        for kind in [Kind.tag, .pin, .image, .source, .superblock] {
            try forEach(kind, transaction, tables) { key, value in
                if kind == .source {
                    let record = try SourceRecord(value)
                    if SourceRecord.key(record.path) != key { report("source \(record.path) stands under another key") }
                }
                if kind == .image { _ = try ImageRecord(value) }
                let id: ContentID? = kind == .tag ? try ContentID(value) : kind == .pin || kind == .image ? try ContentID(key) : nil
                if let id, try !transaction.contains(tables[.snapshot], id.bytes) {
                    report("\(kind) \(Checksum.name(kind, key)): snapshot \(id) is missing")
                }
            }
        }
    }

    private func checkCounts(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        var seen: [Kind: Set<ContentID>] = [:]
        try forEach(.count, transaction, tables) { key, value in
            guard key.count == 1 + ContentID.byteCount, let kind = Kind(rawValue: key[0]) else {
                return report("count with an impossible key")
            }
            let id = try ContentID(Array(key.dropFirst()))
            seen[kind, default: []].insert(id)
            let expected = uses[kind]?[id] ?? 0
            let record = try CountRecord(value)
            if record.count != expected {
                report("\(kind) \(id) is counted \(record.count) times, but used \(expected) times")
            }
            if kind == .block { rawSizes[id] = record.rawBytes }
            else if record != CountRecord(count: record.count) { report("\(kind) \(id): its count has a block's fields") }
            if try !transaction.contains(tables[kind], id.bytes) { damaged[id] = "\(kind) \(id) is missing" }
        }
        for (kind, ids) in uses {
            for id in ids.keys where seen[kind]?.contains(id) != true {
                damaged[id] = damaged[id] ?? "\(kind) \(id) is used, but not stored"
            }
        }
        for kind in [Kind.block, .tensor, .part, .snapshot] {
            try transaction.scan(tables[kind]) { key, _ in
                let key = key.withUnsafeBytes { Array($0) }
                if let id = try? ContentID(key), seen[kind]?.contains(id) == true { return true }
                report("\(kind) \(Hex.string(key)) has no count")
                return true
            }
        }
        for (id, record) in tensors {
            let grid = record.grid
            for (index, block) in record.blocks.enumerated() {
                guard let size = rawSizes[block], Int(size) != grid.range(index).count else { continue }
                damaged[block] = damaged[block] ?? "block \(block) has \(size) bytes where tensor \(id) needs \(grid.range(index).count)"
            }
        }
    }

    /// Checks every block's checksum; in depth, decodes and hashes it.
    private func checkBlocks(_ generation: Generation) throws -> (Int, UInt64) {
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
        return (ids.count, rawBytes.withLock { $0 })
    }

    private static func check(
        _ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, _ depth: VerifyDepth
    ) throws -> (problem: String?, raw: UInt64, packed: UInt64) {
        let key = id.bytes
        guard let record = try transaction.get(tables[.block], key) else { return (nil, 0, 0) }
        let count = try transaction.count(tables, .block, id)
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
                let target = UnsafeMutableRawBufferPointer(rebasing: lane.raw[..<header.rawCount])
                try lane.coder.unpack(packed, into: target)
                let isRight = ContentID.hash(of: UnsafeRawBufferPointer(target)) == id
                return (isRight ? nil : "block \(id) does not match its id", UInt64(header.rawCount), UInt64(record.count))
            } catch let error as StoreError {
                return (error.reason.replacing("store: ", with: ""), 0, UInt64(record.count))
            } catch {
                return ("block \(id): \(error)", 0, UInt64(record.count))
            }
        }
    }

    /// Reads every image back and compares it, block by block, with the ids of the snapshot's blocks.
    private func checkImages(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> Int {
        var ids: [ContentID] = []
        try forEach(.image, transaction, tables) { key, _ in
            let id = try ContentID(key)
            // An image is a cache: one that somebody removed whole is made again when it is wanted.
            if FileSystem.status(ImageWriter.path(store.path, id)) != nil { ids.append(id) }
        }
        for id in ids {
            try monitor.checkCancelled()
            guard let bytes = try? transaction.record(tables, .snapshot, id.bytes),
                let record = try? SnapshotRecord(bytes, what: "snapshot \(id)")
            else { continue }
            for entry in record.manifest.parts where !record.dropped.contains(entry.kind) {
                for file in parts[entry.id]?.files ?? [] { checkImage(file, of: id) }
            }
        }
        return ids.count
    }

    private func checkImage(_ file: PartManifest.File, of id: ContentID) {
        let path = ImageWriter.path(store.path, id) + "/" + file.path
        let hint = "ckpt unpin and ckpt path make it anew"
        guard let status = FileSystem.status(path) else { return report("images/\(id.short): \(file.path) is missing (hint: \(hint))") }
        guard !file.isDirectory else { return }
        guard status.size == file.size else {
            return report("images/\(id.short): \(file.path) is \(status.size) bytes long, not \(file.size) (hint: \(hint))")
        }
        let tensors = file.storages.map { ($0.tensor, [$0.offset..<($0.offset + $0.length)]) }
            + (file.skeleton.map { [($0, file.skeletonRanges)] } ?? [])
        do {
            let source = try OpenFile(reading: path)
            let lanes = try Lanes { try CodecLane() }
            let firstBad = Mutex<UInt64?>(nil)
            for (tensor, ranges) in tensors {
                guard let record = self.tensors[tensor] else { continue }
                try lanes.forEach(record.blocks.count) { lane, index in
                    let pieces = Ranges.slice(ranges, record.grid.range(index))
                    var filled = 0
                    for piece in pieces {
                        let target = UnsafeMutableRawBufferPointer(rebasing: lane.raw[filled..<(filled + piece.count)])
                        try source.read(at: piece.lowerBound, into: target)
                        filled += piece.count
                    }
                    let bytes = UnsafeRawBufferPointer(rebasing: lane.raw[..<filled])
                    if ContentID.hash(of: bytes) != record.blocks[index] {
                        firstBad.withLock { $0 = min($0 ?? .max, pieces.first?.lowerBound ?? 0) }
                    }
                }
            }
            if let byte = firstBad.withLock({ $0 }) {
                report("images/\(id.short): \(file.path): byte \(byte): differs from the snapshot's block (hint: \(hint))")
            }
        } catch {
            report("images/\(id.short): \(file.path): \(error)")
        }
    }

    /// Turns damaged records into problems that name the snapshots and tensors they harm.
    private func attribute(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        guard !damaged.isEmpty else { return }
        var problems: [ContentID: StoreProblem] = damaged.mapValues { StoreProblem($0) }
        let damagedTensors = tensors.mapValues { record in record.blocks.filter { damaged[$0] != nil } }
        try forEach(.step, transaction, tables) { key, value in
            let (run, step) = try StepKey.decode(key)
            let id = try StepRecord(value).snapshot
            guard let bytes = try transaction.record(tables, .snapshot, id.bytes),
                let record = try? SnapshotRecord(bytes, what: "snapshot")
            else { return }
            var harm: [ContentID: [String]] = [:]
            for entry in record.manifest.parts {
                if damaged[entry.id] != nil { harm[entry.id, default: []] += [] }
                for file in parts[entry.id]?.files ?? [] {
                    for (index, storage) in file.storages.enumerated() {
                        let bad = damagedTensors[storage.tensor] ?? []
                        let causes = damaged[storage.tensor] != nil ? [storage.tensor] : Array(Set(bad))
                        for cause in causes {
                            harm[cause, default: []] += file.tensors.filter { $0.storage == index }.map { "\(file.path):\($0.name)" }
                        }
                    }
                    if let skeleton = file.skeleton {
                        let causes = damaged[skeleton] != nil ? [skeleton] : damagedTensors[skeleton] ?? []
                        for cause in causes { harm[cause, default: []].append("\(file.path) (header)") }
                    }
                }
            }
            for (cause, names) in harm {
                problems[cause]?.snapshots.append("\(run)@\(step)")
                for name in names where problems[cause]?.tensors.contains(name) == false { problems[cause]?.tensors.append(name) }
            }
        }
        self.problems += problems.sorted { $0.key < $1.key }.map(\.value)
    }
}
