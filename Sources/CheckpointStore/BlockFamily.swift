internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// Blocks of one place and all they are packed against, with what is known of their uses.
struct BlockFamily {
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
            let (bases, header) = try record.withUnsafeBytes { record in
                let packed = try Checksum.unchecked(record, .block, key: id.bytes)
                return (try PackedHeader.bases(in: packed).map { ContentID($0) }, try PackedHeader(packed))
            }
            guard header.depth == count.depth, header.rawCount == Int(count.rawBytes) else {
                throw StoreError(.damaged, "store: block \(id) is not what its count says", hint: "run ckpt verify")
            }
            members.append(
                Member(id: id, count: count, bases: bases, element: header.element, uses: try uses(id, transaction, tables), isInSnapshot: standing.contains(id)))
            open += bases
        }
        for member in members {
            for base in member.bases {
                let index = members.firstIndex { $0.id == base }!
                guard members[index].count.depth < member.count.depth else {
                    throw StoreError(.damaged, "store: block \(base) lies no lower than what is packed against it", hint: "run ckpt verify")
                }
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
