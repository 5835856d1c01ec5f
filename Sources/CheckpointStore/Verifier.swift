internal import BlockCodec
internal import LMDB

/// Checks the records of one consistent view of a store.
final class Verifier {
    let store: Store
    /// What is checked; not always what `current` names.
    private let generation: Generation
    let depth: VerifyDepth
    let monitor: Monitor
    let progress: (ByteProgress) -> Void

    /// What is wrong with a block, tensor or part, to be told with the snapshots it harms.
    var damaged: [ContentID: String] = [:]
    /// Uses found by following the records down, to compare with the counts.
    private(set) var uses: [Kind: [ContentID: UInt64]] = [:]
    var tensors: [ContentID: TensorRecord] = [:]
    var parts: [ContentID: PartManifest] = [:]
    var problems: [StoreProblem] = []
    /// Snapshots whose images are not what their blocks say.
    var damagedImages: Set<ContentID> = []
    /// Counts that are not the uses found.
    private(set) var wrongCounts: [(kind: Kind, id: ContentID, uses: UInt64)] = []
    private var notes: [String] = []
    private var reported: Set<String> = []
    private var depthLimit: UInt8 = 0
    /// Raw bytes of each block, as its count says.
    private var rawSizes: [ContentID: UInt32] = [:]

    init(
        store: Store, generation: Generation, depth: VerifyDepth, monitor: Monitor,
        progress: @escaping (ByteProgress) -> Void
    ) {
        self.store = store
        self.generation = generation
        self.depth = depth
        self.monitor = monitor
        self.progress = progress
    }

    func run(_ report: inout VerifyReport) throws {
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
        (report.probes, report.entropyRecords) = try checkRecords(transaction, tables)
        if depth == .full { report.images = try checkImages(transaction, tables) }
        try attribute(transaction, tables)
        report.problems += problems
        report.notes += notes
    }

    func use(_ kind: Kind, _ id: ContentID, by count: UInt64 = 1) {
        uses[kind, default: [:]][id, default: 0] += count
    }

    /// Notes a problem, once: steps are visited twice.
    func report(_ reason: String) {
        if reported.insert(reason).inserted { problems.append(StoreProblem(reason)) }
    }

    /// Notes what is no damage.
    func note(_ text: String) { notes.append(text) }

    /// The checked value of a record, or nil with the damage noted.
    func open(_ kind: Kind, _ key: [UInt8], _ record: borrowing RawSpan) -> [UInt8]? {
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

    func forEach(
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
            let here = record.here
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
        try forEach(.pending, transaction, tables) { key, value in
            let pending = try Pending(value)
            count += 1
            if key.count != 16 || pending.isEmpty { report("pending \(Hex.string(key)): impossible key or nothing in it") }
            for tensor in pending.tensors { use(.tensor, tensor) }
            for block in pending.blocks { use(.block, block) }
        }
        return count
    }

    private func checkNames(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        for kind in [Kind.tag, .pin, .image, .source, .superblock, .metric, .policy] where tables.find(kind) != nil {
            try forEach(kind, transaction, tables) { key, value in
                try checkForm(kind, key, value)
                if kind == .image { try noteMissingImage(ContentID(key)) }
                guard let id = try snapshotNamed(by: kind, key, value), try !transaction.contains(tables[.snapshot], id.bytes)
                else { return }
                report("\(kind) \(Checksum.name(kind, key)): snapshot \(id) is missing")
            }
        }
    }

    /// An image is a cache: one that somebody removed is made again when it is wanted.
    private func noteMissingImage(_ id: ContentID) throws {
        guard FileSystem.status(ImageWriter.path(store.path, id)) == nil else { return }
        // Unless it was dropped since the check began.
        let isRecorded = try store.read { transaction, tables in try transaction.contains(tables[.image], id.bytes) }
        if isRecorded { note("images/\(id.short): recorded, but not there; ckpt path \(id.short) makes it again") }
    }

    private func snapshotNamed(by kind: Kind, _ key: [UInt8], _ value: [UInt8]) throws -> ContentID? {
        switch kind {
        case .tag: try ContentID(value)
        case .pin, .image: try ContentID(key)
        case .metric: try Metric.decodeKey(key).id
        default: nil
        }
    }

    /// Keys and values that only names and times are made of.
    private func checkForm(_ kind: Kind, _ key: [UInt8], _ value: [UInt8]) throws {
        let name = Checksum.name(kind, key)
        switch kind {
        case .superblock:
            if key != Superblock.key { report("superblock: a second record, \"\(name)\"") }
        case .tag:
            if key.contains(0) || String(validating: key, as: UTF8.self) == nil { report("tag \(Hex.string(key)): not a name") }
        case .pin, .image:
            _ = try ImageRecord(value)
        case .source:
            let record = try SourceRecord(value)
            if SourceRecord.key(record.path) != key { report("source \(record.path) stands under another key") }
            for (file, next) in zip(record.files, record.files.dropFirst())
            where !file.path.utf8.lexicographicallyPrecedes(next.path.utf8) {
                report("source \(record.path): files out of order")
            }
        case .metric:
            try Metric.check(name: Metric.decodeKey(key).name)
            _ = try Metric.decode(value)
        case .policy:
            _ = try PolicyKey.decode(key)
            _ = try RetentionPolicy(encoded: value)
        default: break
        }
    }

    private func checkCounts(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        var seen: [Kind: Set<ContentID>] = [:]
        try forEach(.count, transaction, tables) { key, value in
            guard key.count == 1 + ContentID.byteCount, let kind = Kind(rawValue: key[0]),
                [.block, .tensor, .part, .snapshot].contains(kind)
            else {
                return report("count with an impossible key")
            }
            let id = try ContentID(Array(key.dropFirst()))
            seen[kind, default: []].insert(id)
            let expected = uses[kind]?[id] ?? 0
            let record = try CountRecord(value)
            if record.count != expected {
                wrongCounts.append((kind, id, expected))
                report("\(kind) \(id) is counted \(record.count) times, but used \(expected) times")
            }
            if kind == .block { rawSizes[id] = record.rawBytes }
            else if record != CountRecord(count: record.count) { report("\(kind) \(id): its count has a block's fields") }
            if kind == .block, record.isQuarantined {
                damaged[id] = "block \(id) is quarantined: it was damaged, and no copy of it was found"
            } else if try !transaction.contains(tables[kind], id.bytes) {
                damaged[id] = "\(kind) \(id) is missing"
            }
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
}
