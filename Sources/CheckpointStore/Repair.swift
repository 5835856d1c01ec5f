internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// What a repair has done.
public struct RepairResult: Sendable {
    /// Blocks and tensors that are whole again, and where their bytes came from.
    public var recovered: [(what: String, source: String)] = []
    /// What could not be recovered, with the snapshots it harms. Blocks among it are quarantined: nothing new is packed against them, and a
    /// later ingest of the same bytes makes them whole.
    public var lost: [StoreProblem] = []
    /// Counts that were wrong and are right now.
    public var counts = 0
    /// Images that were made anew or dropped.
    public var images = 0
    /// What a check of the store finds after it.
    public var report = VerifyReport()
}

extension Store {
    /// Checks the store at `path` in full and mends what can be mended: damaged blocks, tensors, parts and snapshots from images, from the
    /// checkpoints they were ingested from where those are still there, and from `originals`; the step of a snapshot that has lost its only one;
    /// counts; images. What is believed has the right SHA-256.
    ///
    /// Holds the store lock. Stopped anywhere, what was mended is mended.
    /// - Parameter originals: checkpoint directories or files, or directories that hold them.
    /// - Throws: `.damaged` when the pages of the data file are damaged: nothing may be written to such a file.
    /// - Complexity: O(bytes), three times over; memory: 12 bytes for each block, and the raw bytes of the blocks that one is packed against.
    public static func repair(
        _ path: String, from originals: [String] = [], lockTimeout: Double = 30, monitor: Monitor = Monitor(),
        progress: @escaping (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) -> RepairResult {
        try throwingStoreErrors {
            var pages = VerifyReport()
            guard let absolute = FileSystem.absolute(path), FileSystem.status(absolute + "/current") != nil else {
                throw StoreError(.noStore, "\(path): no store here", hint: "make one with: ckpt init \(path)")
            }
            for original in originals where FileSystem.status(original) == nil { throw StoreError(.badInput, "\(original): no such file or directory") }
            let lock = try StoreLock(store: absolute, timeout: lockTimeout, isCancelled: monitor.isCancelled)
            defer { withExtendedLifetime(lock) {} }
            guard try walkPages(absolute, Generation.current(absolute), &pages) else {
                throw StoreError(
                    .damaged, "\(pages.problems[0]); pages cannot be repaired",
                    hint: "ckpt export what can still be read into a new store, and keep this one as it is")
            }
            let store = try Store.open(absolute, lockTimeout: lockTimeout)
            var repair = Repair(store: store, originals: originals, monitor: monitor, progress: progress)
            return try repair.perform()
        }
    }
}

struct Repair {
    let store: Store
    let originals: [String]
    let monitor: Monitor
    let progress: (ByteProgress) -> Void
    var result = RepairResult()

    init(store: Store, originals: [String], monitor: Monitor, progress: @escaping (ByteProgress) -> Void) {
        self.store = store
        self.originals = originals
        self.monitor = monitor
        self.progress = progress
    }

    mutating func perform() throws -> RepairResult {
        var (verifier, report) = try verify(.full)
        guard !report.problems.isEmpty else {
            result.report = report
            return result
        }
        // From the names down: what a record uses is known once it can be read.
        for kind in [Kind.step, .snapshot, .part, .tensor] {
            let before = result.recovered.count
            switch kind {
            case .step: try recoverSteps(verifier)
            case .snapshot: try recoverSnapshots(verifier)
            case .part: try recoverParts(verifier)
            default: try recoverTensors(verifier)
            }
            if result.recovered.count > before { (verifier, report) = try verify(.full) }
        }
        try recoverBlocks(verifier)
        try mendCounts()
        try mendImages(verifier.damagedImages)
        try? store.recover()
        (verifier, report) = try verify(.full)
        result.report = report
        result.lost = report.problems
        return result
    }

    private func verify(_ depth: VerifyDepth) throws -> (Verifier, VerifyReport) {
        var report = VerifyReport()
        _ = try Store.walkPages(store.path, store.openGeneration.number, &report)
        let verifier = Verifier(store: store, generation: store.openGeneration, depth: depth, monitor: monitor, progress: progress)
        try verifier.run(&report)
        return (verifier, report)
    }

    // MARK: Places

    /// Where each snapshot was ingested from, as far as steps can be read.
    func sources(_ verifier: Verifier) throws -> [ContentID: [String]] {
        var sources: [ContentID: [String]] = [:]
        try store.read { transaction, tables in
            try verifier.forEach(.step, transaction, tables) { _, value in
                let record = try StepRecord(value)
                sources[record.snapshot, default: []].append(record.source)
            }
        }
        return sources
    }

    /// A stored tensor in a file of a snapshot.
    private struct Place {
        var snapshot: ContentID
        /// Directories and files it was ingested from.
        var sources: [String]
        var file: PartManifest.File
        var ranges: [Range<UInt64>]
        /// Nil for a skeleton.
        var storage: Int?
    }

    /// The places of some tensors, in each snapshot that stands somewhere.
    private func places(of wanted: Set<ContentID>, _ verifier: Verifier) throws -> [ContentID: [Place]] {
        let sources = try sources(verifier)
        var places: [ContentID: [Place]] = [:]
        try store.read { transaction, tables in
            for (id, paths) in sources {
                guard let record = try? transaction.snapshotRecord(tables, id) else { continue }
                for part in record.here {
                    for file in try verifier.soundPart(part.id, transaction, tables)?.files ?? [] {
                        for (index, storage) in file.storages.enumerated() where wanted.contains(storage.tensor) {
                            places[storage.tensor, default: []].append(
                                Place(
                                    snapshot: id, sources: paths, file: file, ranges: [storage.offset..<(storage.offset + storage.length)], storage: index))
                        }
                        if let skeleton = file.skeleton, wanted.contains(skeleton) {
                            places[skeleton, default: []].append(
                                Place(snapshot: id, sources: paths, file: file, ranges: file.skeletonRanges, storage: nil))
                        }
                    }
                }
            }
        }
        return places
    }

    /// Files that may hold what stands at `place`.
    private func candidates(_ place: Place) -> [String] {
        let path = place.file.path
        var found = [ImageWriter.path(store.path, place.snapshot) + "/" + path]
        for source in place.sources + originals {
            guard let status = FileSystem.status(source) else { continue }
            if status.isRegular {
                found.append(source)
            } else {
                found.append(source + "/" + path)
                // A directory of checkpoints.
                found += place.sources.map { source + "/" + FileSystem.name($0) + "/" + path }
                found += place.sources.map { source + "/" + FileSystem.name($0) }
            }
        }
        return found.filter { FileSystem.status($0)?.isRegular == true }
    }

    func read(_ path: String, _ ranges: [Range<UInt64>]) -> [UInt8]? {
        guard let file = try? OpenFile(reading: path) else { return nil }
        var bytes = [UInt8](repeating: 0, count: ranges.reduce(0) { $0 + $1.count })
        return bytes.withUnsafeMutableBytes({ try? file.read(ranges, into: $0) }) == nil ? nil : bytes
    }

    // MARK: Tensors

    /// Makes the block lists of damaged tensors anew from files that hold their bytes.
    private mutating func recoverTensors(_ verifier: Verifier) throws {
        let damaged = Set(verifier.damaged.keys.filter { verifier.uses(of: .tensor, $0) > 0 })
        guard !damaged.isEmpty else { return }
        let places = try places(of: damaged, verifier)
        for id in damaged.sorted() {
            guard let (record, source) = try rebuilt(id, places[id] ?? []) else { continue }
            try store.write { transaction, tables in
                try transaction.putRecord(tables, .tensor, id.bytes, record.encoded())
                try transaction.putCount(tables, .tensor, id, CountRecord(count: verifier.uses(of: .tensor, id)))
            }
            result.recovered.append(("tensor \(id)", source))
        }
    }

    private func rebuilt(_ id: ContentID, _ places: [Place]) throws -> (TensorRecord, source: String)? {
        for place in places {
            let length = place.ranges.reduce(0) { $0 + UInt64($1.count) }
            // As what the tensor was stored: as a named tensor that fills its storage, else as bytes.
            var forms: [(DType, [UInt64])] = [(.u8, [length])]
            if let storage = place.storage {
                forms = place.file.tensors.filter { $0.storage == storage && $0.byteCount == length }.map { ($0.dtype, $0.shape) } + forms
            }
            for path in candidates(place) {
                for (dtype, shape) in forms {
                    guard let grid = Grid(dtype: dtype, shape: shape), grid.byteCount == length else { continue }
                    var blocks: [ContentID] = []
                    for index in 0..<grid.count {
                        guard let bytes = read(path, Ranges.slice(place.ranges, grid.range(index))) else { break }
                        blocks.append(bytes.withUnsafeBytes { ContentID.hash(of: $0) })
                    }
                    guard blocks.count == grid.count else { continue }
                    let record = TensorRecord(dtype: dtype, shape: shape, blocks: blocks)
                    if ContentID.hash(of: record.encoded()) == id { return (record, path) }
                }
            }
        }
        return nil
    }

    // MARK: Blocks

    private mutating func recoverBlocks(_ verifier: Verifier) throws {
        let damaged = Set(verifier.damaged.keys.filter { verifier.uses(of: .block, $0) > 0 })
        guard !damaged.isEmpty else { return }
        let tensors = try store.read { transaction, tables in try verifier.tensorsWithDamagedBlocks(transaction, tables) }
        let places = try places(of: Set(tensors.keys), verifier)
        var left: [ContentID] = []
        // Where each stands.
        var standing: [ContentID: [(place: Place, element: DType, range: Range<UInt64>)]] = [:]
        for (tensor, record) in tensors {
            for (index, block) in record.blocks.enumerated() where damaged.contains(block) {
                for place in places[tensor] ?? [] { standing[block, default: []].append((place, record.dtype, record.grid.range(index))) }
            }
        }
        let lane = try CodecLane()
        let inferred = try basesByDependants(of: damaged)
        func isCaused(_ id: ContentID) -> Bool { verifier.damaged[id]?.contains("is packed against") ?? false }
        // First what is damaged itself: what hangs on it may be readable then.
        for id in damaged.filter({ !isCaused($0) }).sorted() + damaged.filter(isCaused).sorted() {
            try monitor.checkCancelled()
            let uses = verifier.uses(of: .block, id)
            if try keepReadable(id, uses: uses, lane) { continue }
            if try recover(id, standing[id] ?? [], uses: uses, inferred[id], lane) { continue }
            left.append(id)
        }
        // A block may have become readable since: until nothing more does.
        var before = left.count + 1
        while left.count < before {
            before = left.count
            left = try left.filter { id in try !keepReadable(id, uses: verifier.uses(of: .block, id), lane) }
        }
        for id in left { try quarantine(id, rawBytes: standing[id]?.first.map { $0.range.count }, uses: verifier.uses(of: .block, id)) }
    }

    /// What blocks were packed against, as those that are packed against them in turn say.
    private func basesByDependants(of damaged: Set<ContentID>) throws -> [ContentID: ContentID] {
        var bases: [ContentID: ContentID] = [:]
        try store.read { transaction, tables in
            try transaction.scan(tables[.block]) { key, record in
                guard key.byteCount == ContentID.byteCount else { return true }
                let key = key.withUnsafeBytes { Array($0) }
                record.withUnsafeBytes { record in
                    guard let packed = try? Checksum.open(record, .block, key: key), let found = try? PackedHeader.bases(in: packed), found.count == 2
                    else { return }
                    let first = ContentID(found[0])
                    if damaged.contains(first) { bases[first] = ContentID(found[1]) }
                }
                return true
            }
        }
        return bases
    }

    /// The raw bytes of a block, each base of it decoded by itself: chains need not be as readers want them.
    private func rawBytes(
        _ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane
    ) -> [UInt8]? {
        var known: [ContentID: [UInt8]?] = [:]
        return rawBytes(id, transaction, tables, lane, &known)
    }

    /// - Parameter known: what was decoded before, or is being: two bases often hang on the same blocks.
    private func rawBytes(
        _ id: ContentID, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, _ known: inout [ContentID: [UInt8]?]
    ) -> [UInt8]? {
        if let raw = known[id] { return raw }
        known[id] = .some(nil)
        guard known.count <= Int(UInt8.max), let record = try? transaction.get(tables[.block], id.bytes) else { return nil }
        let key = id.bytes
        // Copied: what is packed lies in the map only as long as nothing else is read.
        guard let packed: [UInt8] = record.withUnsafeBytes({ record in (try? Checksum.open(record, .block, key: key)).map { Array($0) } }),
            let header = try? packed.withUnsafeBytes({ try PackedHeader($0) }), header.rawCount <= BlockCoder.maximumBlockBytes,
            let bases = try? packed.withUnsafeBytes({ try PackedHeader.bases(in: $0).map { ContentID($0) } })
        else { return nil }
        var raws: [[UInt8]] = []
        for base in bases {
            guard let raw = rawBytes(base, transaction, tables, lane, &known), raw.count == header.rawCount else { return nil }
            raws.append(raw)
        }
        var raw = [UInt8](repeating: 0, count: header.rawCount)
        let isUnpacked = raw.withUnsafeMutableBytes { target in
            packed.withUnsafeBytes { packed in
                BaseBlock.withAll(raws) { bases in (try? lane.coder.unpack(packed, bases: bases, into: target)) != nil }
            }
        }
        guard isUnpacked, raw.withUnsafeBytes({ ContentID.hash(of: $0) }) == id else { return nil }
        known[id] = raw
        return raw
    }

    /// Whether the block's own bytes are right; where its chain is not as readers want it, or its count is wrong, that is mended.
    private mutating func keepReadable(_ id: ContentID, uses: UInt64, _ lane: CodecLane) throws -> Bool {
        let found = try store.read { transaction, tables -> (raw: [UInt8], element: DType, base: ContentID?, isReadable: Bool)? in
            guard let raw = rawBytes(id, transaction, tables, lane), let record = try transaction.get(tables[.block], id.bytes) else { return nil }
            let key = id.bytes
            let (header, bases) = try record.withUnsafeBytes { record in
                let packed = try Checksum.unchecked(record, .block, key: key)
                return (try PackedHeader(packed), try PackedHeader.bases(in: packed).map { ContentID($0) })
            }
            let isReadable = (try? transaction.blockBytes(tables, id, count: raw.count, lane)) != nil
            return (raw, header.element, bases.first, isReadable)
        }
        guard let found else { return false }
        if found.isReadable {
            try store.write { transaction, tables in
                guard let record = try transaction.get(tables[.block], id.bytes) else { return }
                let key = id.bytes
                let count = try record.withUnsafeBytes { record in
                    let packed = try Checksum.unchecked(record, .block, key: key)
                    return CountRecord(count: uses, try PackedHeader(packed), packedBytes: packed.count)
                }
                if (try? transaction.count(tables, .block, id)) != count { try transaction.putCount(tables, .block, id, count) }
            }
        } else {
            try put(id, found.raw, found.element, base: found.base, uses: uses, lane)
            result.recovered.append(("block \(id)", "its own bytes"))
        }
        return true
    }

    /// Whether a file had the block's bytes.
    private mutating func recover(
        _ id: ContentID, _ standing: [(place: Place, element: DType, range: Range<UInt64>)], uses: UInt64, _ inferred: ContentID?, _ lane: CodecLane
    ) throws -> Bool {
        for (place, element, range) in standing {
            for path in candidates(place) {
                guard let bytes = read(path, Ranges.slice(place.ranges, range)), bytes.withUnsafeBytes({ ContentID.hash(of: $0) }) == id else { continue }
                try put(id, bytes, element, base: inferred, uses: uses, lane)
                result.recovered.append(("block \(id)", path))
                return true
            }
        }
        return false
    }

    /// Keeps a block packed against `base`, with that one's own, where it can be read: what is packed against both stays readable.
    private func put(_ id: ContentID, _ raw: [UInt8], _ element: DType, base: ContentID?, uses: UInt64, _ lane: CodecLane) throws {
        let (packed, header) = try store.read { transaction, tables in
            var bases: [BaseBlock] = []
            if let base, let depth = try transaction.count(tables, .block, base)?.depth,
                depth < (try Superblock.read(transaction, tables)).depthLimit,
                let chain = try? BlockChain(base, transaction, tables).decode(count: raw.count, transaction, tables, lane)
            {
                bases = chain.suffix(2).reversed()
            }
            let packed = try raw.withUnsafeBytes { raw in
                try [UInt8](unsafeUninitializedCapacity: PackedHeader.byteCount + raw.count) { target, count in
                    count = try lane.coder.pack(raw, element: element, packing: .delta, bases: bases, into: UnsafeMutableRawBufferPointer(target))
                }
            }
            return (packed, try packed.withUnsafeBytes { try PackedHeader($0) })
        }
        try store.write { transaction, tables in
            try packed.withUnsafeBytes { try transaction.putRecord(tables, .block, id.bytes, $0) }
            try transaction.putCount(tables, .block, id, CountRecord(count: uses, header, packedBytes: packed.count))
        }
    }

    private func quarantine(_ id: ContentID, rawBytes: Int?, uses: UInt64) throws {
        try store.write(making: .retention) { transaction, tables in
            let known = try? transaction.count(tables, .block, id)
            try transaction.delete(tables[.block], id.bytes)
            try transaction.putCount(
                tables, .block, id,
                CountRecord(quarantinedWith: max(1, uses), rawBytes: rawBytes ?? Int(known?.rawBytes ?? 0)))
        }
    }

    // MARK: Counts and images

    /// Sets counts to the uses that there are, and deletes what has none, until all agree. While a record that uses others cannot be read,
    /// nothing is taken for unused: counts only rise.
    private mutating func mendCounts() throws {
        for _ in 0..<64 {
            let (verifier, _) = try verify(.quick)
            let wrongCounts = verifier.wrongCounts.filter { wrong in !verifier.hasUnreadableUsers || wrong.uses > wrong.counted }
            guard !wrongCounts.isEmpty else { return }
            try store.write { transaction, tables in
                for wrong in wrongCounts {
                    guard var count = try? transaction.count(tables, wrong.kind, wrong.id) else { continue }
                    if wrong.uses > 0 {
                        count.count = wrong.uses
                        try transaction.putCount(tables, wrong.kind, wrong.id, count)
                    } else {
                        try transaction.delete(tables[.count], CountRecord.key(wrong.kind, wrong.id))
                        try transaction.delete(tables[wrong.kind], wrong.id.bytes)
                    }
                }
            }
            result.counts += wrongCounts.count
        }
    }

    /// Makes damaged images anew; those that nobody wants any more go.
    private mutating func mendImages(_ damaged: Set<ContentID>) throws {
        for id in damaged.sorted() {
            _ = try store.write { transaction, tables in try transaction.delete(tables[.image], id.bytes) }
            try FileSystem.removeTree(ImageWriter.path(store.path, id))
            let isWanted = try store.read { transaction, tables in try transaction.keepsImage(tables, id) }
            if isWanted { _ = try? store.makeImage(of: id, whole: false) }
            result.images += 1
        }
    }
}

extension BaseBlock {
    /// The bytes of all of `raws` at once.
    fileprivate static func withAll<R>(_ raws: [[UInt8]], _ body: ([UnsafeRawBufferPointer]) -> R) -> R {
        func next(_ index: Int, _ found: [UnsafeRawBufferPointer]) -> R {
            guard index < raws.count else { return body(found) }
            return raws[index].withUnsafeBytes { next(index + 1, found + [$0]) }
        }
        return next(0, [])
    }
}
