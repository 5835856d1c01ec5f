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
    /// Uses found by following the records down.
    private var tallies = Verifier.counted.map { _ in UseTally() }
    /// Bytes of each tensor, in the order of their ids; those of a damaged one are not known.
    private var tensorNumbers = IDNumbers()
    private var tensorBytes: [UInt64] = []
    var problems: [StoreProblem] = []
    /// Snapshots whose images are not what their blocks say.
    var damagedImages: Set<ContentID> = []
    /// Counts that are not the uses found.
    private(set) var wrongCounts: [(kind: Kind, id: ContentID, counted: UInt64, uses: UInt64)] = []
    /// Whether a record that uses others cannot be read: what it used is counted more often than found.
    private(set) var hasUnreadableUsers = false
    /// Keys of steps that cannot be read.
    private(set) var unreadableSteps: [[UInt8]] = []
    private var notes: [String] = []
    private var reported: Set<String> = []
    private var depthLimit: UInt8 = 0
    /// Bytes of all block records.
    private(set) var blockBytes: UInt64 = 0

    /// The kinds whose uses are counted.
    private static let counted = [Kind.block, .tensor, .part, .snapshot]

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
        try readCounts(transaction, tables)
        try followTensors(transaction, tables)
        try followParts(transaction, tables)
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

    /// Notes one use. Returns the count of what is used; nil where there is none.
    @discardableResult
    private func use(_ kind: Kind, _ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> CountRecord? {
        let count = try Verifier.optional { try transaction.count(tables, kind, id) }
        // A damaged one is reported by itself.
        let isCounted = try count != nil || transaction.contains(tables[.count], CountRecord.key(kind, id))
        tallies[Verifier.counted.firstIndex(of: kind)!].add(id, isCounted: isCounted)
        return count
    }

    /// Uses that were found of an object.
    func uses(of kind: Kind, _ id: ContentID) -> UInt64 { tallies[Verifier.counted.firstIndex(of: kind)!].uses(of: id) }

    /// What `read` reads, or nil where that is missing or damaged.
    static func optional<T>(_ read: () throws -> T?) throws -> T? {
        do {
            return try read()
        } catch let error as StoreError where error.code == .damaged {
            return nil
        }
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
                noteUnreadable(kind)
                if kind == .step, !unreadableSteps.contains(key) { unreadableSteps.append(key) }
                let text = "\(kind) \(Checksum.name(kind, key)) does not match its checksum"
                if let id = try? ContentID(key) { damaged[id] = text } else { report(text) }
                return nil
            }
        }
    }

    private func noteUnreadable(_ kind: Kind) {
        if [.step, .snapshot, .part, .tensor, .pending].contains(kind) { hasUnreadableUsers = true }
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
                noteUnreadable(kind)
                report("\(kind) \(Checksum.name(kind, key)): \(error.reason)")
            }
            return true
        }
    }

    /// Gives numbers to all that is counted, and finds counts of what is not there.
    private func readCounts(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        tallies = try Verifier.counted.map { kind in UseTally(capacity: try transaction.count(tables[kind])) }
        try forEach(.count, transaction, tables) { key, value in
            guard let (kind, id) = CountRecord.decodeKey(key), let index = Verifier.counted.firstIndex(of: kind) else {
                return report("count with an impossible key")
            }
            tallies[index].append(id)
            let record = try CountRecord(value)
            if kind != .block, record != CountRecord(count: record.count) { report("\(kind) \(id): its count has a block's fields") }
            if kind == .block, record.isQuarantined {
                damaged[id] = "block \(id) is quarantined: it was damaged, and no copy of it was found"
            } else if try !transaction.contains(tables[kind], id.bytes) {
                damaged[id] = "\(kind) \(id) is missing"
            }
        }
    }

    private func followTensors(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try forEach(.tensor, transaction, tables) { key, value in
            guard let id = try? ContentID(key) else { return report("tensor key of \(key.count) bytes") }
            guard ContentID.hash(of: value) == id, let record = try? TensorRecord(value, what: "tensor \(id)") else {
                noteUnreadable(.tensor)
                damaged[id] = "tensor \(id) does not match its id"
                return
            }
            let grid = record.grid
            tensorNumbers.append(id)
            tensorBytes.append(grid.byteCount)
            for (index, block) in record.blocks.enumerated() {
                let count = try use(.block, block, transaction, tables)
                guard let count, Int(count.rawBytes) != grid.range(index).count else { continue }
                damaged[block] = damaged[block]
                    ?? "block \(block) has \(count.rawBytes) bytes where tensor \(id) needs \(grid.range(index).count)"
            }
        }
    }

    private func followParts(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try forEach(.part, transaction, tables) { key, value in
            guard let id = try? ContentID(key) else { return report("part key of \(key.count) bytes") }
            guard ContentID.hash(of: value) == id, let part = try? PartManifest(value, what: "part \(id)") else {
                noteUnreadable(.part)
                damaged[id] = "part \(id) does not match its id"
                return
            }
            for tensor in part.uses { try use(.tensor, tensor, transaction, tables) }
            for file in part.files { checkSizes(of: file, in: id) }
        }
    }

    /// Every storage and skeleton must be as long as the stored tensor that has its bytes.
    private func checkSizes(of file: PartManifest.File, in part: ContentID) {
        let skeletonBytes = file.skeletonRanges.reduce(0) { $0 + UInt64($1.count) }
        let pieces = file.storages.map { ($0.tensor, $0.length) } + (file.skeleton.map { [($0, skeletonBytes)] } ?? [])
        for (tensor, count) in pieces {
            if let number = tensorNumbers.number(of: tensor), tensorBytes[number] != count {
                report("part \(part): \(file.path) gives tensor \(tensor) \(count) bytes; it has \(tensorBytes[number])")
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
            else {
                noteUnreadable(.snapshot)
                return report("snapshot \(id) does not match its id")
            }
            let here = record.here
            var found: [PartManifest] = []
            for part in here {
                try use(.part, part.id, transaction, tables)
                guard let manifest = try soundPart(part.id, transaction, tables) else { continue }
                if manifest.kind != part.kind { report("snapshot \(id) takes \(manifest.kind) for \(part.kind)") }
                found.append(manifest)
            }
            let sums = SnapshotRecord(manifest: record.manifest, parts: found)
            if record.dropped.isEmpty, found.count == here.count, sums != record {
                report("snapshot \(id): its sums of files, tensors or bytes are not those of its parts")
            }
        }
        try forEach(.step, transaction, tables) { key, value in
            let (run, step) = try StepKey.decode(key)
            let record = try StepRecord(value)
            try use(.snapshot, record.snapshot, transaction, tables)
            if try !transaction.contains(tables[.snapshot], record.snapshot.bytes) {
                report("\(run)@\(step): snapshot \(record.snapshot) is missing")
            }
        }
        return count
    }

    /// A part that is there and whole.
    func soundPart(_ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables) throws -> PartManifest? {
        guard damaged[id] == nil else { return nil }
        return try Verifier.optional { try transaction.partManifest(tables, id) }
    }

    /// A base is used by each block packed against it, and lies at a lower depth.
    private func followBases(_ transaction: borrowing ReadTransaction, _ tables: Tables) throws {
        try transaction.scan(tables[.block]) { key, record in
            blockBytes += UInt64(record.byteCount)
            guard let id = try? ContentID(key.withUnsafeBytes { Array($0) }) else { return true }
            try record.withUnsafeBytes { record in
                guard let packed = try? Checksum.unchecked(record, .block, key: id.bytes), let header = try? PackedHeader(packed),
                    let bases = try? PackedHeader.bases(in: packed)
                else { return }
                if header.depth > depthLimit { report("block \(id) lies at depth \(header.depth), past the limit of \(depthLimit)") }
                for base in bases.map({ ContentID($0) }) {
                    if let depth = try use(.block, base, transaction, tables)?.depth, depth >= header.depth { report("block \(id) is packed against \(base), which lies no lower") }
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
            for tensor in pending.tensors { try use(.tensor, tensor, transaction, tables) }
            for block in pending.blocks { try use(.block, block, transaction, tables) }
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
        try forEach(.count, transaction, tables) { key, value in
            guard let (kind, id) = CountRecord.decodeKey(key), Verifier.counted.contains(kind) else { return }
            let (record, found) = (try CountRecord(value), uses(of: kind, id))
            guard record.count != found else { return }
            wrongCounts.append((kind, id, record.count, found))
            report("\(kind) \(id) is counted \(record.count) times, but used \(found) times")
        }
        for (kind, tally) in zip(Verifier.counted, tallies) {
            for id in tally.uncounted.keys { damaged[id] = damaged[id] ?? "\(kind) \(id) is used, but not stored" }
        }
        for kind in Verifier.counted {
            try transaction.scan(tables[kind]) { key, _ in
                let key = key.withUnsafeBytes { Array($0) }
                if let id = try? ContentID(key), try transaction.contains(tables[.count], CountRecord.key(kind, id)) { return true }
                report("\(kind) \(Hex.string(key)) has no count")
                return true
            }
        }
    }
}
