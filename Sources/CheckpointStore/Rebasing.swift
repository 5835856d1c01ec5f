internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// What became of blocks that were in use only as bases.
public struct RebasingResult: Sendable, Equatable {
    /// Blocks that were packed anew, against other bases or against nothing.
    public var blocks = 0
    /// Raw bytes of those.
    public var rawBytes: UInt64 = 0
    /// Packed bytes that they take more than before.
    public var grownBytes: Int64 = 0
    /// Hidden blocks that nothing hangs on any more, and their packed bytes.
    public var freedBlocks = 0
    /// Packed bytes of the freed ones.
    public var freedBytes: UInt64 = 0
    /// Hidden blocks that stay: what hangs on them would grow by more than they take.
    public var hiddenBlocks = 0
    /// Packed bytes of the hidden ones.
    public var hiddenBytes: UInt64 = 0
    /// The first block that could not be read; what hangs on such blocks stays as it is.
    public var damage: String?

    /// Packed bytes that it freed in the end.
    public var savedBytes: UInt64 { UInt64(max(0, Int64(freedBytes) - grownBytes)) }

    static func += (left: inout RebasingResult, right: RebasingResult) {
        left.blocks += right.blocks
        left.rawBytes += right.rawBytes
        left.grownBytes += right.grownBytes
        left.freedBlocks += right.freedBlocks
        left.freedBytes += right.freedBytes
        left.hiddenBlocks += right.hiddenBlocks
        left.hiddenBytes += right.hiddenBytes
        left.damage = left.damage ?? right.damage
    }
}

/// Takes blocks off bases that no snapshot has any more, where that makes the store smaller.
///
/// The store keeps no list of what is packed against a block. What can be is looked for in the snapshots that followed one that went; a
/// hidden block whose uses are not all found there stays, which is always right. At each place of each tensor, the hidden blocks
/// and what hangs on them are decided on together: those that cost less to do without go.
struct Rebasing {
    /// Snapshots in a row, oldest first, whose blocks may hang on what went.
    typealias Window = [ContentID]

    let store: Store
    let monitor: Monitor
    /// Places that are worked on together, in one commit.
    private static let batch = 128
    /// Snapshots of a window, or twice the reach of chains: their block lists are in memory together, a tensor at a time.
    private static let longestWindow = 64
    /// Steps that a chain of deltas may reach past its depth: at the limit it goes back to an ancestor.
    private static let slack = 2

    /// The windows that follow what goes: of each run those steps that come after one that goes or loses a part, or whose parent goes.
    ///
    /// - Parameters:
    ///   - history: of all runs, by run and step, as it is before.
    ///   - gone: steps that go, as `run@step`.
    ///   - trimmed: snapshots that lose their optimizer state.
    static func windows(_ history: [HistoryEntry], gone: Set<String>, trimmed: Set<ContentID>, depthLimit: UInt8) -> [Window] {
        let staying = Set(history.filter { !gone.contains("\($0.run)@\($0.step)") }.map(\.id))
        let reach = Int(depthLimit) + slack
        let longest = max(longestWindow, 2 * reach)
        var windows: [Window] = []
        var current: Window = []
        var left = 0
        func close() {
            if !current.isEmpty { windows.append(current) }
            current = []
        }
        var run: String?
        for entry in history {
            if entry.run != run {
                close()
                (run, left) = (entry.run, 0)
            }
            if gone.contains("\(entry.run)@\(entry.step)") {
                left = reach
                continue
            }
            if let parent = entry.parent, !staying.contains(parent) { left = reach }
            if trimmed.contains(entry.id) { left = reach + 1 }
            guard left > 0 else {
                close()
                continue
            }
            if current.last != entry.id { current.append(entry.id) }
            left -= 1
            if current.count == longest {
                // The next one begins with what may hang on the same blocks.
                let overlap = Array(current.suffix(reach))
                close()
                current = overlap
            }
        }
        close()
        return windows
    }

    /// Looks at all blocks of the windows' snapshots and packs anew what is worth it, slice by slice. Under the store lock only.
    ///
    /// - Parameters:
    ///   - result: what was done is added to it, also when an error ends it.
    ///   - progress: called with raw bytes looked at and their sum.
    func perform(_ windows: [Window], into result: inout RebasingResult, progress: (ByteProgress) -> Void = { _ in }) throws {
        var decided = IDTable()
        try visit(windows, into: &result, progress: progress, uses: { block, transaction, tables in
            try decided[block].map { UInt64($0) } ?? transaction.count(tables, .block, block)?.count ?? 0
        }, decide: { decided[$0] = .max }) { found in
            var result = RebasingResult()
            guard found.contains(where: { !$0.changed.isEmpty }) else {
                for one in found { result += one.kept }
                return result
            }
            try store.write { transaction, tables in
                for one in found { result += try one.apply(transaction, tables) }
            }
            return result
        }
    }

    /// What `perform` would do once `forecast` has come to pass, by sizes expected from samples. Changes nothing.
    ///
    /// - Parameter trimmed: snapshots that have lost their optimizer state by then.
    func forecast(
        _ windows: [Window], _ forecast: consuming RemovalForecast, trimmed: Set<ContentID>, progress: (ByteProgress) -> Void = { _ in }
    ) throws -> RebasingResult {
        var result = RebasingResult()
        var forecast = forecast
        try visit(windows, isForecast: true, trimmed: trimmed, into: &result, progress: progress, uses: { block, transaction, tables in
            try forecast.uses(of: block, transaction, tables)
        }, decide: { forecast.keep($0) }) { found in found.reduce(into: RebasingResult()) { $0 += $1.expected } }
        return result
    }

    /// - Parameters:
    ///   - uses: of a block; of one that was decided on so many that it is taken for one of a snapshot's own. Called on many threads.
    ///   - decide: called with each hidden block of `finish`'s places: runs that share snapshots come upon them once more.
    private func visit(
        _ windows: [Window], isForecast: Bool = false, trimmed: Set<ContentID> = [], into result: inout RebasingResult, progress: (ByteProgress) -> Void,
        uses: @escaping (ContentID, borrowing ReadTransaction, Tables) throws -> UInt64, decide: (ContentID) -> Void,
        finish: ([RebasedPlace]) throws -> RebasingResult
    ) throws {
        guard !windows.isEmpty else { return }
        let lanes = try Lanes { try CodecLane() }
        let generation = try store.currentGeneration()
        var meter = ByteProgress(doneBytes: 0, totalBytes: try windows.reduce(0) { try $0 + rawBytes($1) })
        var places: [Place] = []
        func flush() throws {
            try monitor.checkCancelled()
            let found = Locked<[(index: Int, place: RebasedPlace)]>([])
            let damage = Locked<String?>(nil)
            let batch = places
            nonisolated(unsafe) let uses = uses
            try lanes.run { lane, next in
                let transaction = try generation.environment.beginRead()
                while let index = next(batch.count) {
                    var family = BlockFamily(batch[index].blocks)
                    do {
                        guard try family.load(transaction, generation.tables, uses), !family.hidden.isEmpty else { continue }
                        let place = try family.repack(transaction, generation.tables, lane, isForecast: isForecast)
                        found.withLock { $0.append((index, place)) }
                    } catch let error as StoreError where error.code == .damaged {
                        damage.withLock { $0 = $0 ?? error.reason }
                    }
                }
            }
            let inOrder = found.withLock { $0.sorted { $0.index < $1.index } }.map(\.place)
            // Two places of one batch may have the same blocks.
            var seen: Set<ContentID> = []
            let settled = inOrder.filter { place in place.hidden.allSatisfy { seen.insert($0.id).inserted } }
            result += try finish(settled)
            for place in settled { for block in place.hidden { decide(block.id) } }
            result.damage = result.damage ?? damage.withLock { $0 }
            meter.doneBytes += batch.reduce(0) { $0 + $1.rawBytes }
            progress(meter)
            places.removeAll(keepingCapacity: true)
        }
        for window in windows {
            try forEachPlace(window, trimmed) { place in
                places.append(place)
                if places.count == Rebasing.batch { try flush() }
            }
        }
        try flush()
    }

    /// The blocks that stand in one place of a tensor, in the snapshots of a window.
    private struct Place {
        var blocks: [ContentID]
        var rawBytes: UInt64
    }

    private func rawBytes(_ window: Window) throws -> UInt64 {
        try store.read { transaction, tables in
            try window.reduce(0) { try $0 + (transaction.snapshotRecord(tables, $1)?.rawBytes ?? 0) }
        }
    }

    private func forEachPlace(_ window: Window, _ trimmed: Set<ContentID>, _ body: (Place) throws -> Void) throws {
        // The tensors of one name, in the order of the snapshots.
        struct Name: Hashable {
            var part: PartKind
            var name: ExactName
        }
        var tensors: [Name: [ContentID]] = [:]
        for id in window {
            for part in try store.loadSnapshot(id).parts where part.kind != .optimizer || !trimmed.contains(id) {
                for file in part.files {
                    for tensor in file.tensors {
                        tensors[Name(part: part.kind, name: ExactName(tensor.name)), default: []].append(file.storages[tensor.storage].tensor)
                    }
                    if let skeleton = file.skeleton {
                        tensors[Name(part: part.kind, name: ExactName("\u{0}" + file.path)), default: []].append(skeleton)
                    }
                }
            }
        }
        for ids in tensors.values {
            // Equal tensors have equal blocks.
            var seen: Set<ContentID> = []
            let records = try store.read { transaction, tables in
                try ids.filter { seen.insert($0).inserted }.compactMap { try transaction.tensorRecord(tables, $0) }
            }
            guard let first = records.first else { continue }
            for index in 0..<first.grid.count {
                let count = first.grid.range(index).count
                var blocks: [ContentID] = []
                for record in records where record.grid.count == first.grid.count && record.grid.range(index).count == count {
                    if !blocks.contains(record.blocks[index]) { blocks.append(record.blocks[index]) }
                }
                try body(Place(blocks: blocks, rawBytes: UInt64(count * records.count)))
            }
        }
    }
}
