internal import LMDB

/// What snapshots that may go take: the packed bytes of the blocks that would be freed if all of them went, bases among them, by which of them need
/// a block.
///
/// Blocks are put together by the set of snapshots that need them, of which there are few: deltas are needed by some steps in a row. While it
/// is made, 20 bytes of memory for each block of the store.
struct SnapshotSpace {
    /// Blocks that the same candidates need.
    private struct Group {
        var packedBytes: UInt64
        /// Whether one of those was added.
        var isHeld = false
    }

    private var groups: [Group] = []
    /// The groups that each candidate needs.
    private var needs: [ContentID: [Int]] = [:]
    /// Packed bytes of all groups, and of all blocks of the store.
    let totalBytes: UInt64
    let storeBytes: UInt64

    /// A set of candidates, as the one before the last joined it and the last.
    private struct Node {
        var parent: Int
        var candidate: Int
        var packedBytes: UInt64 = 0
    }

    /// A candidate that joins a set.
    private struct Joining: Hashable {
        var node: UInt32
        var candidate: Int
    }

    /// - Parameter steps: the snapshots of all steps that may go, one for each step.
    /// - Complexity: O(blocks of the store), and O(log n) for each of a candidate.
    init<T: Transaction & ~Copyable>(_ steps: [ContentID], _ transaction: borrowing T, _ tables: Tables) throws {
        let blocks = try BlockGraph(transaction, tables)
        storeBytes = blocks.packedBytes.reduce(0) { $0 + UInt64($1) }
        // The node of the candidates that need a block: 0 for one that would stay, 1 for one that nothing is known of yet.
        var nodeOfBlock = [UInt32](repeating: 0, count: blocks.count)
        var nodes = [Node(parent: 0, candidate: -1), Node(parent: 0, candidate: -1)]
        var forecast = RemovalForecast()
        forecast.freed = { id in if let number = blocks.number(of: id) { nodeOfBlock[number] = 1 } }
        for id in steps.reversed() { _ = try forecast.removeUse(of: id, transaction, tables) }
        totalBytes = forecast.packedBytes

        var joined: [Joining: UInt32] = [:]
        var candidates: [ContentID] = []
        var seen: Set<ContentID> = []
        for id in steps where seen.insert(id).inserted {
            let candidate = candidates.count
            candidates.append(id)
            try transaction.blocks(tables, of: id) { block in
                var next = blocks.number(of: block)
                // One that was come upon has brought its bases, and the bases of one that stays stay.
                while let number = next, nodeOfBlock[number] != 0, nodes[Int(nodeOfBlock[number])].candidate != candidate {
                    let joining = Joining(node: nodeOfBlock[number], candidate: candidate)
                    if let known = joined[joining] {
                        nodeOfBlock[number] = known
                    } else {
                        nodes.append(Node(parent: Int(joining.node), candidate: candidate))
                        nodeOfBlock[number] = UInt32(nodes.count - 1)
                        joined[joining] = nodeOfBlock[number]
                    }
                    next = blocks.base(of: number)
                }
            }
        }
        for (node, bytes) in zip(nodeOfBlock, blocks.packedBytes) where node > 1 { nodes[Int(node)].packedBytes += UInt64(bytes) }
        for index in nodes.indices where nodes[index].packedBytes > 0 {
            var node = index
            while node > 1 {
                needs[candidates[nodes[node].candidate], default: []].append(groups.count)
                node = nodes[node].parent
            }
            groups.append(Group(packedBytes: nodes[index].packedBytes))
        }
    }

    /// Packed bytes that keeping `id` takes beside what was added. O(groups).
    func cost(of id: ContentID) -> UInt64 { (needs[id] ?? []).reduce(0) { $0 + (groups[$1].isHeld ? 0 : groups[$1].packedBytes) } }

    /// Keeps `id`.
    mutating func add(_ id: ContentID) {
        for group in needs[id] ?? [] { groups[group].isHeld = true }
    }

    /// Keeps nothing.
    mutating func removeAll() {
        for group in groups.indices { groups[group].isHeld = false }
    }
}

extension Transaction where Self: ~Copyable {
    /// Visits the blocks of a snapshot's tensors, each as often as it stands in one.
    fileprivate func blocks(_ tables: Tables, of snapshot: ContentID, _ body: (ContentID) -> Void) throws {
        for part in try snapshotRecord(tables, snapshot)?.here ?? [] {
            for tensor in try partManifest(tables, part.id)?.uses ?? [] {
                try tensorRecord(tables, tensor)?.blocks.forEach(body)
            }
        }
    }
}
