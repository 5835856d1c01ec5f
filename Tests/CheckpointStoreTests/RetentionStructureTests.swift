import LMDB
import TestSupport
import Testing

@testable import CheckpointStore

/// What a plan is made of, against plain versions of it.
@Suite struct RetentionStructureTests {
    private static func id(_ random: inout SeededBytes) -> ContentID { ContentID.hash(of: random.bytes(8)) }

    /// A table does what a dictionary does, whatever goes in and out.
    @Test(arguments: 0..<6) func tablesOfIDs(_ seed: UInt64) {
        var random = SeededBytes(seed)
        var (table, model): (IDTable, [ContentID: UInt32]) = (IDTable(), [:])
        let ids = (0..<[20, 60, 300, 3000, 3000, 20_000][Int(seed)]).map { _ in RetentionStructureTests.id(&random) }
        for round in 0..<60_000 {
            let id = ids[Int.random(in: 0..<ids.count, using: &random)]
            // Filled first, then emptied more often.
            if Int.random(in: 0..<10, using: &random) < (round < 30_000 ? 7 : 3) {
                let value = UInt32.random(in: .min ... .max, using: &random)
                (table[id], model[id]) = (value, value)
            } else {
                (table[id], model[id]) = (nil, nil)
            }
            if round % 1000 == 0 { #expect(ids.allSatisfy { table[$0] == model[$0] } && table.count == model.count) }
        }
        for id in ids { table[id] = nil }
        #expect(table.count == 0 && ids.allSatisfy { table[$0] == nil })
    }

    @Test(arguments: 0..<8) func whatOnlyOneTeaches(_ seed: UInt64) {
        var random = SeededBytes(seed)
        let ids = (0..<9).map { _ in RetentionStructureTests.id(&random) }
        var gains: [ContentID: [Double]] = [:]
        // Small whole numbers, of a power of two of samples: many are equal, and means are exact. One of them is not known.
        for id in ids.dropLast() { gains[id] = (0..<64).map { _ in Double(Int.random(in: 0..<4, using: &random)) } }
        let worth = SnapshotWorth(gains: gains, strong: ids[0])
        let kept = Set(ids.filter { _ in Bool.random(using: &random) })
        let marginals = worth.marginals(of: ids + ids.prefix(2), beside: kept)
        for id in ids {
            let others = kept.filter { $0 != id }
            #expect(marginals[id] == gains[id].map { _ in worth.value(of: others + [id]) - worth.value(of: others) })
        }
    }

    /// The blocks that snapshots need, by following every chain of every one of them.
    private static func needs(_ fixture: StoreFixture) throws -> (of: [ContentID: Set<ContentID>], bytes: [ContentID: UInt64]) {
        try fixture.store.read { transaction, tables in
            var needs: [ContentID: Set<ContentID>] = [:]
            var bytes: [ContentID: UInt64] = [:]
            for entry in try fixture.store.history() {
                var open: [ContentID] = []
                for part in try transaction.snapshotRecord(tables, entry.id)!.here {
                    for tensor in try transaction.partManifest(tables, part.id)!.uses { open += try transaction.tensorRecord(tables, tensor)!.blocks }
                }
                while let block = open.popLast() {
                    guard needs[entry.id, default: []].insert(block).inserted else { continue }
                    bytes[block] = UInt64(try transaction.count(tables, .block, block)!.packedBytes)
                    open += try transaction.bases(tables, of: block)
                }
            }
            return (needs, bytes)
        }
    }

    @Test(arguments: 0..<4) func spaceOfSets(_ seed: UInt64) throws {
        var random = SeededBytes(seed)
        let fixture = try StoreFixture(depthLimit: [0, 2, 3, 5][Int(seed)])
        var trainings = [FineTune(tensors: 2)]
        for step in 1...9 as ClosedRange<UInt64> {
            // Two runs that part half way, and one snapshot in both.
            if step == 5 { trainings.append(trainings[0]) }
            for index in trainings.indices {
                try fixture.ingest(trainings[index].next(), run: ["a", "b"][index], step: step) { $0.makesImage = false }
            }
        }
        try fixture.ingest(FineTune.firstBytes, run: "b", step: 20) { $0.makesImage = false }
        let (needs, bytes) = try RetentionStructureTests.needs(fixture)
        let history = try fixture.store.history()
        for _ in 0..<12 {
            let open = history.filter { _ in Int.random(in: 0..<3, using: &random) > 0 }
            // One that stands at a step that stays takes nothing.
            let staying = Set(history.filter { entry in !open.contains { $0.run == entry.run && $0.step == entry.step } }.map(\.id))
            let fixed = staying.reduce(into: Set<ContentID>()) { $0.formUnion(needs[$1]!) }
            var space = try fixture.store.read { transaction, tables in try SnapshotSpace(open.map(\.id), transaction, tables) }
            #expect(space.storeBytes == bytes.values.reduce(0, +))
            #expect(space.totalBytes == bytes.reduce(0) { fixed.contains($1.key) ? $0 : $0 + $1.value })
            for _ in 0..<3 {
                var held = fixed
                for id in Set(open.map(\.id)).shuffled(using: &random) {
                    #expect(space.cost(of: id) == needs[id]!.subtracting(held).reduce(0) { $0 + bytes[$1]! })
                    space.add(id)
                    held.formUnion(needs[id]!)
                }
                space.removeAll()
            }
        }
    }
}

extension FineTune {
    /// The weights after its first step.
    fileprivate static var firstBytes: [UInt8] {
        var training = FineTune(tensors: 2)
        return training.next()
    }
}
