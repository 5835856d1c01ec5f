internal import BlockCodec
internal import Dispatch
internal import LMDB
internal import TensorFormats

/// One block to read: where its bytes lie, and where they go besides.
struct BlockJob {
    var file: OpenSource
    /// The image's copy of the file; nil when none is made by copying.
    var image: OpenFile?
    /// Ranges of the file, in order; more than one only for skeletons.
    var ranges: [Range<UInt64>]
    var byteCount: Int
    var element: DType
    /// The block in its place in the snapshot before.
    var base: ContentID?
    /// Where its bytes may lie, and those of the block in its place in the snapshot before that.
    var baseCopy: BlockCopy?
    var previousCopy: BlockCopy?
    /// Which of the checkpoint's tensors it belongs to.
    var tensor: Int
}

/// Blocks that are read, hashed and packed together, and then stored in order.
final class BlockBatch {
    /// What became of a job.
    struct Result {
        var id: ContentID
        /// Bytes in the slab, 0 when the block was stored already.
        var packedCount: Int
    }

    static let maximumJobs = 1024
    static let maximumRawBytes = 8 << 20
    /// Each file of a job stays open until the batch is done: six batches of these, with the image's and two ancestors', stay well under the
    /// 256 to 1,024 files that processes may commonly open.
    private static let maximumFiles = 8
    private static let slabBytes =
        maximumRawBytes + BlockCoder.maximumBlockBytes + maximumJobs * PackedHeader.byteCount

    private(set) var jobs: [BlockJob] = []
    private(set) var rawBytes = 0
    private var files = 0
    private var offsets: [Int] = []
    private let slab = UnsafeMutableRawBufferPointer.allocate(byteCount: slabBytes, alignment: 64)
    private let results = UnsafeMutableBufferPointer<Result>.allocate(capacity: maximumJobs)

    deinit {
        slab.deallocate()
        results.deallocate()
    }

    var isFull: Bool {
        jobs.count == BlockBatch.maximumJobs || rawBytes >= BlockBatch.maximumRawBytes || files == BlockBatch.maximumFiles
    }

    func removeAll() {
        jobs.removeAll(keepingCapacity: true)
        offsets.removeAll(keepingCapacity: true)
        rawBytes = 0
        files = 0
    }

    func append(_ job: BlockJob) {
        offsets.append(rawBytes + jobs.count * PackedHeader.byteCount)
        if jobs.last?.file !== job.file { files += 1 }
        jobs.append(job)
        rawBytes += job.byteCount
    }

    /// Room for job `index`: its raw bytes and a header.
    func room(_ index: Int) -> UnsafeMutableRawBufferPointer {
        let start = offsets[index]
        return UnsafeMutableRawBufferPointer(rebasing: slab[start..<(start + PackedHeader.byteCount + jobs[index].byteCount)])
    }

    func set(_ index: Int, _ result: Result) { results[index] = result }

    /// The block's id and its packed bytes, nil when it was stored already. Valid until the batch is reused.
    func result(_ index: Int) -> (id: ContentID, packed: UnsafeRawBufferPointer?) {
        let result = results[index]
        guard result.packedCount > 0 else { return (result.id, nil) }
        return (result.id, UnsafeRawBufferPointer(rebasing: room(index)[..<result.packedCount]))
    }
}

/// Reads, hashes and packs blocks on all processors, some batches ahead of the thread that stores them.
///
/// A block that is stored already, or was met before in this ingest, is hashed but not packed. Memory: six
/// batches of 8 MiB, a few blocks a processor, and 32 bytes for each new block.
final class BlockPipeline {
    /// Enough that the processors have work while a stage is committed.
    private static let batches = 6

    private let environment: Environment
    private let tables: Tables
    private let packing: Packing
    private let choice: BaseChoice
    private let lanes: Lanes<CodecLane>
    private let met = Locked<Set<ContentID>>([])
    /// The thread that works on batches, one after the other; nil when there could be none.
    private var worker: OwnThread?
    private let orders = Orders()
    /// Under way or done, in order.
    private var running: [Order] = []
    private var spare = (0..<BlockPipeline.batches).map { _ in BlockBatch() }
    /// The batch the caller works on.
    private var handedOut: BlockBatch?
    private var nextJob: () throws -> BlockJob?
    private var isExhausted = false

    /// A batch to be worked on. Sendable: the worker has it until `done` is signalled.
    private final class Order: @unchecked Sendable {
        let batch: BlockBatch
        let done = DispatchSemaphore(value: 0)
        var failure: (any Error)?

        init(_ batch: BlockBatch) { self.batch = batch }
    }

    /// What the worker is given, in order; nil: to end.
    private final class Orders: Sendable {
        private let waiting = Locked<[Order?]>([])
        private let count = DispatchSemaphore(value: 0)

        func put(_ order: Order?) {
            waiting.withLock { $0.append(order) }
            count.signal()
        }

        func take() -> Order? {
            count.wait()
            return waiting.withLock { $0.removeFirst() }
        }
    }

    /// - Parameter nextJob: the jobs, in the order they are to be stored; nil at the end.
    init(
        environment: Environment, tables: Tables, packing: Packing, choice: BaseChoice,
        nextJob: @escaping () throws -> BlockJob?
    ) throws {
        self.environment = environment
        self.tables = tables
        self.packing = packing
        self.choice = choice
        self.nextJob = nextJob
        lanes = try Lanes { try CodecLane() }
    }

    /// Waits for what is under way: call before its files are removed.
    func stop() {
        isExhausted = true
        for order in running { order.done.wait() }
        running.removeAll()
        orders.put(nil)
        worker?.join()
        worker = nil
    }

    /// The next batch, done; nil after the last. The batch before it is reused: be through with it.
    func next() throws -> BlockBatch? {
        if let handedOut { spare.append(handedOut) }
        handedOut = nil
        while try start() {}
        guard !running.isEmpty else { return nil }
        let current = running.removeFirst()
        current.done.wait()
        if let error = current.failure { throw error }
        handedOut = current.batch
        return current.batch
    }

    /// Puts one more batch under way; false when there is none to do or to do it in.
    private func start() throws -> Bool {
        guard !isExhausted, let batch = spare.popLast() else { return false }
        batch.removeAll()
        while !batch.isFull {
            guard let job = try nextJob() else {
                isExhausted = true
                break
            }
            batch.append(job)
        }
        guard !batch.jobs.isEmpty else { return false }
        let order = Order(batch)
        running.append(order)
        if worker == nil {
            // It has the pipeline until `stop`, which all that make one call.
            nonisolated(unsafe) unowned let pipeline = self
            let orders = self.orders
            worker = OwnThread { while let order = orders.take() { pipeline.fill(order) } }
        }
        if worker != nil { orders.put(order) } else { fill(order) }
        return true
    }

    private func fill(_ order: Order) {
        do { try work(order.batch) } catch { order.failure = error }
        order.done.signal()
    }

    private func work(_ batch: BlockBatch) throws {
        // Two by two: blocks are hashed in pairs, of one length where there are any, so that none waits for the other.
        let order = batch.jobs.indices.sorted { batch.jobs[$0].byteCount > batch.jobs[$1].byteCount }
        let pairs = (order.count + 1) / 2
        try lanes.run { lane, next in
            // A transaction of this lane's own, no older than the batch: what it sees stays, under the store lock.
            let transaction = try environment.beginRead()
            while let pair = next(pairs) {
                let first = try read(batch.jobs[order[2 * pair]], into: lane.raw)
                guard 2 * pair + 1 < order.count else {
                    try pack(batch, order[2 * pair], first, ContentID.hash(of: first), lane, transaction)
                    continue
                }
                let second = try read(batch.jobs[order[2 * pair + 1]], into: lane.secondRaw)
                let (firstID, secondID) = ContentID.hashes(of: first, second)
                try pack(batch, order[2 * pair], first, firstID, lane, transaction)
                try pack(batch, order[2 * pair + 1], second, secondID, lane, transaction)
            }
        }
    }

    /// Reads a block, and copies it into the image.
    private func read(_ job: BlockJob, into buffer: UnsafeMutableRawBufferPointer) throws -> UnsafeRawBufferPointer {
        let raw = UnsafeMutableRawBufferPointer(rebasing: buffer[..<job.byteCount])
        var filled = 0
        for range in job.ranges {
            let piece = UnsafeMutableRawBufferPointer(rebasing: raw[filled..<(filled + range.count)])
            try job.file.read(at: range.lowerBound, into: piece)
            try job.image?.write(UnsafeRawBufferPointer(piece), at: range.lowerBound)
            filled += range.count
        }
        return UnsafeRawBufferPointer(raw)
    }

    /// Packs a block unless it is stored, or was met before.
    private func pack(
        _ batch: BlockBatch, _ index: Int, _ bytes: UnsafeRawBufferPointer, _ id: ContentID, _ lane: CodecLane,
        _ transaction: borrowing ReadTransaction
    ) throws {
        var packedCount = 0
        let isFirst = met.withLock { $0.insert(id).inserted }
        if isFirst, try !transaction.isStored(tables, .block, id) {
            let job = batch.jobs[index]
            let bases = try packing == .delta ? job.base.map { base in
                try choice.bases(for: bytes, job, base: base, transaction, tables, lane)
            } : nil
            packedCount = try lane.coder.pack(
                bytes, element: job.element, packing: packing, bases: bases ?? [], into: batch.room(index))
        }
        batch.set(index, BlockBatch.Result(id: id, packedCount: packedCount))
    }
}
