#if DEBUG
import BlockCodec
@testable import CheckpointStore
import Foundation
import LMDB
import TestSupport
import Testing

/// What each run takes, checked against what removing it frees.
@Suite struct RunStatsTests {
    /// Three runs: `a` and `b` share all tensors but two, `c` shares one with both and stands at a step of `a` too.
    private static func three(_ packing: Packing) throws -> StoreFixture {
        let fixture = try StoreFixture()
        var model = SafetensorsFixture.model(seed: 1, layers: 4, rows: 256, columns: 256)
        for step: UInt64 in 1...3 {
            model.tensors[Int(step) - 1].bytes[0] ^= 1
            try fixture.ingest(model.bytes, run: "a", step: step) { $0.packing = packing }
        }
        model.tensors[6].bytes[7] ^= 1
        try fixture.ingest(model.bytes, run: "b", step: 1) { $0.packing = packing }
        model.tensors[0].bytes[1] ^= 1
        try fixture.ingest(model.bytes, run: "c", step: 1) { $0.packing = packing; $0.makesImage = false }
        try fixture.ingest(model.bytes, run: "a", step: 9)
        return fixture
    }

    @Test(arguments: [Packing.dense, .delta]) func packedBytesAreWhatARemovalFrees(_ packing: Packing) throws {
        let fixture = try RunStatsTests.three(packing)
        let stats = try fixture.store.stats()
        #expect(stats.byRun.map(\.run) == ["a", "b", "c"])
        #expect(stats.byRun.map(\.snapshots) == [4, 1, 1] && stats.snapshots == 6)
        #expect(stats.byRun.reduce(0) { $0 + $1.rawBytes } == stats.rawBytes)
        #expect(stats.byRun.allSatisfy { $0.sharedBytes > 0 })
        #expect(stats.byRun[2].packedBytes == 0, "c's one snapshot stands in a too")
        // Packed as deltas, b's blocks need a's.
        #expect(packing == .delta || stats.byRun[0].packedBytes > 0)
        #expect(stats.hiddenBlocks == 0 && stats.hiddenBytes == 0)
        // a@9 and c@1 are one snapshot with one image.
        #expect(stats.byRun[0].imageBytes == stats.byRun[2].imageBytes && stats.byRun[1].imageBytes > 0)
        for run in stats.byRun {
            let copy = fixture.path("copy-" + run.run)
            try FileManager.default.copyItem(atPath: fixture.store.path, toPath: copy)
            let store = try Store.open(copy)
            for entry in try store.history(of: run.run) { try store.remove("\(run.run)@\(entry.step)") }
            let left = try store.stats()
            #expect(left.packedBytes == stats.packedBytes - run.packedBytes, "\(run)")
            #expect(left.byRun.map(\.run) == stats.byRun.map(\.run).filter { $0 != run.run })
            // The run and the others: all there is, those shared counted twice.
            #expect(left.byRun.reduce(0) { $0 + $1.packedBytes } <= left.packedBytes)
        }
    }

    /// Blocks that one run uses only as bases count for it, and are hidden when no tensor has them any more.
    @Test func basesCountForWhoseBlocksUseThem() throws {
        let fixture = try StoreFixture()
        for (seed, run) in [(UInt64(1), "a"), (2, "b"), (3, "c")] {
            try fixture.ingest(SafetensorsFixture.model(seed: seed, layers: 1).bytes, run: run, step: 1) { $0.makesImage = false }
        }
        let blocks = try ["a", "b", "c"].map { try ContentID.hash(of: fixture.bytes(of: "layers.0.weight", in: $0)) }
        let before = try fixture.store.stats()
        // b's block against a's, c's against b's and a's.
        let added = try fixture.store.write { transaction, tables in
            try RunStatsTests.forgeDelta(blocks[1], [blocks[0]], transaction, tables)
                + RunStatsTests.forgeDelta(blocks[2], [blocks[1], blocks[0]], transaction, tables)
        }
        let (a, b, c) = (before.byRun[0], before.byRun[1], before.byRun[2])
        let sizes = try fixture.store.read { transaction, tables in
            try blocks.map { UInt64(try transaction.count(tables, .block, $0)!.packedBytes) }
        }
        let stats = try fixture.store.stats()
        #expect(stats.packedBytes == before.packedBytes + added && stats.hiddenBlocks == 0)
        #expect(stats.byRun[0].packedBytes == a.packedBytes - sizes[0])
        #expect(stats.byRun[0].sharedBytes == a.sharedBytes + sizes[0])
        #expect(stats.byRun[1].sharedBytes == b.sharedBytes + sizes[0] + sizes[1])
        #expect(stats.byRun[2].sharedBytes == c.sharedBytes + sizes[0] + sizes[1])
        #expect(stats.byRun[1].packedBytes == b.packedBytes + 32 - sizes[1])
        #expect(stats.byRun[2].packedBytes == c.packedBytes + 64)
        // Without a and b, their two blocks stay for c.
        try fixture.store.remove("a")
        try fixture.store.remove("b")
        let left = try fixture.store.stats()
        #expect(left.hiddenBlocks == 2 && left.hiddenBytes == sizes[0] + sizes[1])
        #expect(left.byRun.count == 1 && left.byRun[0].sharedBytes == 0)
        #expect(left.byRun[0].packedBytes == left.packedBytes)
        try fixture.store.remove("c")
        #expect(try fixture.store.stats().blocks == 0)
    }

    /// Gives a stored block the header of a delta with `bases`. Returns the bytes it grew by.
    private static func forgeDelta(
        _ id: ContentID, _ bases: [ContentID], _ transaction: borrowing WriteTransaction, _ tables: Tables
    ) throws -> UInt64 {
        var packed = try transaction.record(tables, .block, id.bytes)!
        let depth = try bases.map { try transaction.count(tables, .block, $0)!.depth }.max()! + 1
        packed[0] = 2
        packed[2] = depth
        packed[3] = UInt8(bases.count)
        packed.insert(contentsOf: bases.flatMap(\.bytes), at: 16)
        try transaction.putRecord(tables, .block, id.bytes, packed)
        var count = try transaction.count(tables, .block, id)!
        count.codec = 2
        count.depth = depth
        count.packedBytes = UInt32(packed.count)
        try transaction.putCount(tables, .block, id, count)
        for base in bases { try transaction.retain(tables, .block, base) }
        return UInt64(32 * bases.count)
    }
}
#endif
