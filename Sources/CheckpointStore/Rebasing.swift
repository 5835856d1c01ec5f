internal import BlockCodec
internal import LMDB
internal import Synchronization
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
    public var freedBytes: UInt64 = 0
    /// Hidden blocks that stay: what hangs on them would grow by more than they take.
    public var hiddenBlocks = 0
    public var hiddenBytes: UInt64 = 0

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
    /// Snapshots of a window: their block lists are in memory together, a tensor at a time.
    private static let longestWindow = 64
    /// Steps that a chain of deltas may reach past its depth: at the limit it goes back to an ancestor.
    private static let slack = 2

    /// The windows that follow what goes: of each run those steps that come after one that goes, or whose parent goes.
    ///
    /// - Parameters:
    ///   - history: of all runs, by run and step, as it is before.
    ///   - gone: steps that go, as `run@step`.
    static func windows(_ history: [HistoryEntry], gone: Set<String>, depthLimit: UInt8) -> [Window] {
        let staying = Set(history.filter { !gone.contains("\($0.run)@\($0.step)") }.map(\.id))
        let reach = Int(depthLimit) + slack
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
            guard left > 0 else {
                close()
                continue
            }
            if current.last != entry.id { current.append(entry.id) }
            left -= 1
            if current.count == longestWindow {
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
        try visit(windows, into: &result, progress: progress, uses: { block, transaction, tables in
            try transaction.count(tables, .block, block)?.count ?? 0
        }) { found in
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
    func forecast(
        _ windows: [Window], _ forecast: RemovalForecast, progress: (ByteProgress) -> Void = { _ in }
    ) throws -> RebasingResult {
        var result = RebasingResult()
        try visit(windows, isForecast: true, into: &result, progress: progress, uses: { block, transaction, tables in
            try forecast.uses(of: block, transaction, tables)
        }) { found in found.reduce(into: RebasingResult()) { $0 += $1.expected } }
        return result
    }

    private func visit(
        _ windows: [Window], isForecast: Bool = false, into result: inout RebasingResult, progress: (ByteProgress) -> Void,
        uses: @escaping (ContentID, borrowing ReadTransaction, Tables) throws -> UInt64,
        finish: ([RebasedPlace]) throws -> RebasingResult
    ) throws {
        guard !windows.isEmpty else { return }
        let lanes = try Lanes { try CodecLane() }
        let generation = try store.currentGeneration()
        var meter = ByteProgress(doneBytes: 0, totalBytes: try windows.reduce(0) { try $0 + rawBytes($1) })
        var places: [Place] = []
        func flush() throws {
            try monitor.checkCancelled()
            let found = Mutex<[RebasedPlace]>([])
            let batch = places
            nonisolated(unsafe) let uses = uses
            try lanes.run { lane, next in
                let transaction = try generation.environment.beginRead()
                while let index = next(batch.count) {
                    var family = BlockFamily(batch[index].blocks)
                    guard try family.load(transaction, generation.tables, uses), !family.hidden.isEmpty else { continue }
                    let place = try family.repack(transaction, generation.tables, lane, isForecast: isForecast)
                    found.withLock { $0.append(place) }
                }
            }
            result += try finish(found.withLock { $0 })
            meter.doneBytes += batch.reduce(0) { $0 + $1.rawBytes }
            progress(meter)
            places.removeAll(keepingCapacity: true)
        }
        for window in windows {
            try forEachPlace(window) { place in
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

    private func forEachPlace(_ window: Window, _ body: (Place) throws -> Void) throws {
        // The tensors of one name, in the order of the snapshots.
        struct Name: Hashable {
            var part: PartKind
            var name: ExactName
        }
        var tensors: [Name: [ContentID]] = [:]
        for id in window {
            for part in try store.loadSnapshot(id).parts {
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

/// Blocks of one place and all they are packed against, with what is known of their uses.
private struct BlockFamily {
    struct Member {
        var id: ContentID
        var count: CountRecord
        var bases: [ContentID]
        var element: DType
        /// Uses as a base by other members.
        var dependants: UInt64 = 0
        /// Uses of it at all.
        var uses: UInt64 = 0
        var isInSnapshot: Bool

        var isHidden: Bool { !isInSnapshot && uses == dependants }
    }

    /// Oldest first.
    private let standing: [ContentID]
    private var members: [Member] = []
    private var raws: [ContentID: RawBytes] = [:]
    /// Sizes that were estimated before: drafts ask for the same ones.
    private var estimates: [Pairing: (dense: Int, delta: Int?)] = [:]

    private struct Pairing: Hashable {
        var block: ContentID
        var bases: [[UInt8]]
    }

    init(_ standing: [ContentID]) { self.standing = standing }

    var hidden: [Member] { members.filter(\.isHidden) }

    private func member(_ id: ContentID) -> Member? { members.first { $0.id == id } }

    /// Follows the bases of all blocks; false when one of them is not there.
    mutating func load(
        _ transaction: borrowing ReadTransaction, _ tables: Tables,
        _ uses: (ContentID, borrowing ReadTransaction, Tables) throws -> UInt64
    ) throws -> Bool {
        var open = standing
        while let id = open.popLast() {
            guard member(id) == nil else { continue }
            guard let count = try transaction.count(tables, .block, id), let record = try transaction.get(tables[.block], id.bytes) else {
                return false
            }
            let (bases, element) = try record.withUnsafeBytes { record in
                let packed = try Checksum.unchecked(record, .block, key: id.bytes)
                return (try PackedHeader.bases(in: packed).map { ContentID($0) }, try PackedHeader(packed).element)
            }
            members.append(
                Member(id: id, count: count, bases: bases, element: element, uses: try uses(id, transaction, tables), isInSnapshot: standing.contains(id)))
            open += bases
        }
        for member in members {
            for base in member.bases {
                let index = members.firstIndex { $0.id == base }!
                members[index].dependants += 1
            }
        }
        // From the roots up, of one depth the older first.
        let order = Dictionary(uniqueKeysWithValues: standing.enumerated().map { ($1, $0) })
        members.sort { ($0.count.depth, order[$0.id] ?? -1) < ($1.count.depth, order[$1.id] ?? -1) }
        return true
    }

    /// Packs anew what hangs on hidden blocks that go.
    ///
    /// Which hidden blocks go is tried by depth: all of them, or all but the dense roots, or all but those near them. What hung on one that
    /// goes is packed against its nearest ancestor that stays, or against the block before it in the run, whichever is expected to take
    /// less. No block lies deeper than it did, so what hangs on it still lies deeper.
    mutating func repack(
        _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane, isForecast: Bool
    ) throws -> RebasedPlace {
        let all = hidden
        var best: (draft: Draft, saved: Int)?
        for depth in Set(all.map { Int($0.count.depth) - 1 }).union([-1]).sorted().prefix(3) {
            let going = all.filter { Int($0.count.depth) > depth }
            let limit = going.reduce(0) { $0 + Int($1.count.packedBytes) }
            guard let draft = try draft(Set(going.map(\.id)), limit, transaction, tables, lane) else { continue }
            let saved = limit - draft.growth
            if saved > best?.saved ?? 0 { best = (draft, saved) }
        }
        var place = RebasedPlace(hidden: all.map { ($0.id, $0.count) })
        guard let draft = best?.draft else { return place }
        place.going = draft.going
        if isForecast {
            (place.expectedBlocks, place.expectedGrowth, place.rawBytes) = (draft.choices.count, draft.growth, draft.rawBytes)
            return place
        }
        var renewed: [ContentID: (base: ContentID?, depth: UInt8)] = [:]
        for (member, base) in draft.choices {
            let bases = try baseBlocks(base, renewed, transaction, tables, lane)
            let packed = try BlockFamily.pack(raw(of: member, transaction, tables, lane), member.element, bases, lane)
            let (header, used) = try packed.withUnsafeBytes { packed in
                (try PackedHeader(packed), try PackedHeader.bases(in: packed).map { ContentID($0) })
            }
            guard header.depth <= member.count.depth else { return place.unchanged }
            renewed[member.id] = (used.first, header.depth)
            place.changed.append(
                RebasedPlace.Changed(
                    id: member.id, before: member.count, basesBefore: member.bases, packed: packed, header: header, bases: used))
        }
        // Samples tell sizes within some percent: what was packed says whether it was worth it.
        return place.growth < place.goingBytes ? place : place.unchanged
    }

    /// Which blocks are to be packed anew, in order, and against which.
    private struct Draft {
        var going: Set<ContentID>
        var choices: [(member: Member, base: Member?)] = []
        /// Expected packed bytes beside those of before.
        var growth = 0
        var rawBytes: UInt64 = 0
    }

    /// What has to be done for `going` to go, or nil when it would cost more than `limit` packed bytes.
    private mutating func draft(
        _ going: Set<ContentID>, _ limit: Int, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane
    ) throws -> Draft? {
        var draft = Draft(going: going)
        var renewed: [ContentID: (base: ContentID?, depth: UInt8)] = [:]
        // Of one depth the older first.
        for member in members where !going.contains(member.id) {
            let first = member.bases.first
            let second = first.flatMap { first in renewed[first].map { $0.base } ?? self.member(first)?.bases.first }
            let isSound = first.map { !going.contains($0) } ?? true && (member.bases.count < 2 || second == member.bases[1])
            if isSound { continue }
            let bytes = try raw(of: member, transaction, tables, lane)
            var best: (base: Member?, bytes: Int, depth: UInt8)?
            for base in candidates(for: member, going, renewed) {
                let bases = try baseBlocks(base, renewed, transaction, tables, lane)
                let expected = estimate(member, bytes, bases, lane)
                if best == nil { best = (nil, expected.dense, 0) }
                if let delta = expected.delta, delta < best!.bytes {
                    best = (base, delta + bases.count * PackedHeader.baseByteCount, bases[0].depth + 1)
                }
            }
            guard let best else { return nil }
            draft.choices.append((member, best.base))
            draft.growth += best.bytes + PackedHeader.byteCount - Int(member.count.packedBytes)
            draft.rawBytes += UInt64(bytes.count)
            renewed[member.id] = (best.base?.id, best.depth)
            guard draft.growth < limit + limit / 8 else { return nil }
        }
        return draft
    }

    private mutating func estimate(
        _ member: Member, _ raw: UnsafeRawBufferPointer, _ bases: [BaseBlock], _ lane: CodecLane
    ) -> (dense: Int, delta: Int?) {
        let pairing = Pairing(block: member.id, bases: bases.map(\.id))
        if let known = estimates[pairing] { return known }
        let expected = lane.coder.expectedBytes(raw, element: member.element, bases: bases)
        estimates[pairing] = expected
        return expected
    }

    /// What `member` may be packed against: its nearest ancestor that stays, the block before it in the run that lies deep enough,
    /// nothing.
    private func candidates(
        for member: Member, _ going: Set<ContentID>, _ renewed: [ContentID: (base: ContentID?, depth: UInt8)]
    ) -> [Member?] {
        var found: [Member?] = [nil]
        var ancestor = member.bases.first.flatMap(self.member)
        while let current = ancestor, going.contains(current.id) { ancestor = current.bases.first.flatMap(self.member) }
        if let ancestor { found.append(ancestor) }
        // Its own first base is what prediction from the second needs.
        if let first = member.bases.first, first == ancestor?.id { return found }
        let place = standing.firstIndex(of: member.id) ?? 0
        let before = standing[..<place].reversed().lazy.compactMap(self.member).first { other in
            let depth = renewed[other.id]?.depth ?? other.count.depth
            // One that is still to be packed anew may come to lie elsewhere.
            let isSettled = renewed[other.id] != nil || !other.bases.contains(where: going.contains)
            return depth < member.count.depth && isSettled && other.count.rawBytes == member.count.rawBytes
        }
        if let before, before.id != ancestor?.id { found.append(before) }
        return found
    }

    private mutating func baseBlocks(
        _ base: Member?, _ renewed: [ContentID: (base: ContentID?, depth: UInt8)], _ transaction: borrowing ReadTransaction,
        _ tables: Tables, _ lane: CodecLane
    ) throws -> [BaseBlock] {
        guard let base else { return [] }
        let depth = renewed[base.id]?.depth ?? base.count.depth
        var blocks = [BaseBlock(id: base.id.bytes, bytes: try raw(of: base, transaction, tables, lane), depth: depth)]
        let second = renewed[base.id].map { $0.base } ?? base.bases.first
        if let second = second.flatMap(member) {
            blocks.append(BaseBlock(id: second.id.bytes, bytes: try raw(of: second, transaction, tables, lane), depth: 0))
        }
        return blocks
    }

    private static func pack(
        _ raw: UnsafeRawBufferPointer, _ element: DType, _ bases: [BaseBlock], _ lane: CodecLane
    ) throws -> [UInt8] {
        var failure: (any Error)?
        let packed = [UInt8](unsafeUninitializedCapacity: PackedHeader.byteCount + raw.count) { target, count in
            do {
                count = try lane.coder.pack(raw, element: element, packing: .delta, bases: bases, into: UnsafeMutableRawBufferPointer(target))
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        // Without the room that was left over.
        return Array(packed[...])
    }

    /// The raw bytes of a member; with them those of the whole chain it is in are at hand.
    private mutating func raw(
        of member: Member, _ transaction: borrowing ReadTransaction, _ tables: Tables, _ lane: CodecLane
    ) throws -> UnsafeRawBufferPointer {
        if let known = raws[member.id] { return known.bytes }
        var top = member
        while let next = members.first(where: { $0.bases.first == top.id }) { top = next }
        let chain = try BlockChain(top.id, transaction, tables)
        for block in try chain.decode(count: Int(member.count.rawBytes), transaction, tables, lane, keepsAll: true) {
            let id = try ContentID(block.id)
            if raws[id] == nil { raws[id] = RawBytes(block.bytes) }
        }
        return raws[member.id]!.bytes
    }
}

/// A copy of a block's raw bytes that lives as long as this object.
private final class RawBytes {
    let bytes: UnsafeRawBufferPointer

    init(_ source: UnsafeRawBufferPointer) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: source.count, alignment: 64)
        copy.copyMemory(from: source)
        bytes = UnsafeRawBufferPointer(copy)
    }

    deinit { bytes.deallocate() }
}

/// What is to be done at one place.
private struct RebasedPlace: Sendable {
    struct Changed: Sendable {
        var id: ContentID
        var before: CountRecord
        var basesBefore: [ContentID]
        var packed: [UInt8]
        var header: PackedHeader
        var bases: [ContentID]
    }

    let hidden: [(id: ContentID, count: CountRecord)]
    /// Those that go.
    var going: Set<ContentID> = []
    var changed: [Changed] = []
    var rawBytes: UInt64 = 0
    var expectedGrowth = 0
    var expectedBlocks = 0

    init(hidden: [(id: ContentID, count: CountRecord)]) { self.hidden = hidden }

    /// Packed bytes of what goes.
    var goingBytes: Int { hidden.reduce(0) { $0 + (going.contains($1.id) ? Int($1.count.packedBytes) : 0) } }

    /// Packed bytes that what is packed anew takes more than before.
    var growth: Int { changed.reduce(0) { $0 + $1.packed.count - Int($1.before.packedBytes) } }

    /// All stays as it is.
    var unchanged: RebasedPlace { RebasedPlace(hidden: hidden) }

    /// Hidden blocks that stay.
    var kept: RebasingResult {
        var result = RebasingResult()
        for block in hidden where !going.contains(block.id) {
            result.hiddenBlocks += 1
            result.hiddenBytes += UInt64(block.count.packedBytes)
        }
        return result
    }

    var expected: RebasingResult {
        var result = kept
        guard !going.isEmpty else { return result }
        (result.blocks, result.rawBytes, result.grownBytes) = (expectedBlocks, rawBytes, Int64(expectedGrowth))
        (result.freedBlocks, result.freedBytes) = (going.count, UInt64(goingBytes))
        return result
    }

    /// Puts the new blocks in the place of the old ones and lets go of what those hung on.
    func apply(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> RebasingResult {
        guard !changed.isEmpty else { return kept }
        guard try isCurrent(transaction, tables) else { return unchanged.kept }
        var result = kept
        var released: [ContentID] = []
        for block in changed {
            for base in block.bases { try transaction.retain(tables, .block, base) }
            try block.packed.withUnsafeBytes { try transaction.putRecord(tables, .block, block.id.bytes, $0) }
            var count = block.before
            (count.depth, count.codec, count.packedBytes) = (block.header.depth, block.header.codec, UInt32(block.packed.count))
            try transaction.putCount(tables, .block, block.id, count)
            released += block.basesBefore
            result.blocks += 1
            result.rawBytes += UInt64(block.header.rawCount)
        }
        var freed = FreedBlocks()
        while let block = released.popLast() {
            guard let gone = try transaction.releaseBlock(tables, block) else { continue }
            released += gone.bases
            freed.add(gone.count)
        }
        result.grownBytes = Int64(growth)
        (result.freedBlocks, result.freedBytes) = (freed.blocks, freed.packedBytes)
        return result
    }

    /// Whether nothing has changed since it was made: two places of one commit may share blocks.
    private func isCurrent(_ transaction: borrowing WriteTransaction, _ tables: Tables) throws -> Bool {
        for block in changed {
            guard try transaction.count(tables, .block, block.id) == block.before,
                try transaction.bases(tables, of: block.id) == block.basesBefore
            else { return false }
            for base in block.bases where try !transaction.isStored(tables, .block, base) { return false }
        }
        for block in hidden where try transaction.count(tables, .block, block.id) != block.count { return false }
        return true
    }
}
