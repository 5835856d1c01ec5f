import BlockCodec
import CheckpointStore
import Foundation
import LMDB
import TensorFormats
import TestSupport
import Testing

/// Histories packed as chains of deltas: short enough, whole, and never longer-lived than what hangs on them.
@Suite struct ChainTests {
    /// Depths, codecs and counts of all blocks, from the counts table.
    private func blocks(_ fixture: StoreFixture) throws -> [(depth: UInt8, codec: UInt8, uses: UInt64)] {
        let environment = try Environment.open(path: fixture.store.path + "/gen-1")
        let transaction = try environment.beginRead()
        let table = try #require(try transaction.table("counts"))
        var found: [(depth: UInt8, codec: UInt8, uses: UInt64)] = []
        try transaction.scan(table) { key, value in
            let bytes = value.withUnsafeBytes { Array($0) }
            if key.withUnsafeBytes({ $0[0] }) == 2 {
                found.append((bytes[8], bytes[9], bytes[..<8].reversed().reduce(0) { $0 << 8 | UInt64($1) }))
            }
            return true
        }
        return found
    }

    /// A run longer than its chains may be: nothing lies deeper than the limit, every step comes back, and later
    /// steps take no more than earlier ones.
    @Test(arguments: [0, 1, 2, 5] as [UInt8], [true, false])
    func longRun(limit: UInt8, makesImages: Bool) throws {
        let fixture = try StoreFixture(depthLimit: limit)
        var training = FineTune()
        var steps: [[UInt8]] = []
        var packed: [UInt64] = []
        for step in 0..<14 {
            steps.append(training.next())
            let result = try fixture.ingest(steps[step], run: "r", step: UInt64(step)) { $0.makesImage = makesImages }
            packed.append(result.packedBytes)
        }
        let depths = try blocks(fixture).map(\.depth)
        #expect(depths.max() == limit)
        for (step, bytes) in steps.enumerated() {
            #expect(try fixture.export("r@\(step)")["model.safetensors"] == Data(bytes), "step \(step)")
        }
        if limit > 1 {
            let mean = packed.dropFirst().reduce(0, +) / UInt64(packed.count - 1)
            #expect(mean * 10 < packed[0] * 8, "\(packed)")
            let late = packed.suffix(6).reduce(0, +), early = packed[1..<7].reduce(0, +)
            #expect(late * 10 < early * 13, "\(packed)")
        }
        try fixture.expectWhole()
    }

    /// Snapshots go in any order; what others hang on stays hidden until they go too.
    @Test func basesOutliveTheirSnapshots() throws {
        var generator = SystemRandomNumberGenerator()
        let fixture = try StoreFixture()
        var training = FineTune()
        var steps: [[UInt8]] = []
        for step in 0..<8 {
            steps.append(training.next())
            try fixture.ingest(steps[step], run: "r", step: UInt64(step))
        }
        var left = Array(0..<8)
        while left.count > 1 {
            let gone = left.remove(at: Int.random(in: 0..<left.count, using: &generator))
            try fixture.store.remove("r@\(gone)")
            for step in left {
                #expect(try fixture.export("r@\(step)")["model.safetensors"] == Data(steps[step]), "step \(step) without \(gone)")
            }
            try fixture.expectWhole()
        }
        try fixture.store.remove("r@\(left[0])")
        #expect(try fixture.store.stats().blocks == 0)
        try fixture.expectWhole()
    }

    /// Copies of the ancestors' bytes are believed only when their hashes are right.
    @Test(arguments: [true, false]) func changedCopiesAreNoBases(inImage: Bool) throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        var steps: [[UInt8]] = []
        for step in 0..<4 {
            steps.append(training.next())
            let path = fixture.path("run/checkpoint-\(step)/model.safetensors")
            try FileTree.write(steps[step], to: path)
            letFilesSettle()
            try fixture.ingest(fixture.path("run/checkpoint-\(step)"), run: "r", step: UInt64(step)) { $0.makesImage = inImage }
            // Whoever changes them: the one that the next step will look at, and the one before.
            let copy = inImage ? try fixture.store.imageDirectory(of: "r@\(step)") + "/model.safetensors" : path
            var bytes = try FileTree.bytes(copy)
            for index in stride(from: 400, to: bytes.count, by: 1000) { bytes[index] ^= 0x11 }
            try Data(bytes).write(to: URL(filePath: copy))
        }
        for (step, bytes) in steps.enumerated() {
            #expect(try fixture.export("r@\(step)")["model.safetensors"] == Data(bytes), "step \(step)")
        }
        #expect(try blocks(fixture).contains { $0.depth == 3 })
    }

    /// A damaged base is left alone, though a good copy of its bytes is at hand: readers would have to decode it.
    @Test func nothingHangsOnADamagedBase() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        try fixture.ingest(training.next(), run: "r", step: 1)
        let base = try ContentID.hash(of: fixture.bytes(of: "layer.0", in: "r@1"))
        try fixture.editRecord("blocks", base.bytes) { $0[$0.count / 2] ^= 1 }
        let next = training.next()
        try fixture.ingest(next, run: "r", step: 2)
        #expect(try fixture.export("r@2")["model.safetensors"] == Data(next))
        let report = try Store.verify(fixture.store.path, depth: .full)
        #expect(report.problems.map(\.snapshots) == [["r@1"]])
    }

    /// Of a series that names a parent the first step is packed against it, the others against each other.
    @Test func aSeriesFollowsItsParent() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        let parent = try fixture.ingest(training.next(), run: "base", step: 0)
        for step in 1...3 { try FileTree.write(training.next(), to: fixture.path("run/checkpoint-\(step)/model.safetensors")) }
        let results = try fixture.ingest(fixture.path("run"), run: "r") { $0.parent = "base@0" }
        let parents = try fixture.store.history(of: "r").map(\.parent)
        #expect(parents == [parent.id, results[0].id, results[1].id])
    }

    /// The first snapshot of a run that names no parent finds one that looks like it, and leaves alone what does not.
    @Test func aBaseIsFoundWithoutLineage() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        try fixture.ingest(training.next(), run: "a", step: 1)
        try fixture.ingest(SafetensorsFixture.model(seed: 3).bytes, run: "other", step: 1)
        let near = try fixture.ingest(training.next(), run: "b", step: 1)
        #expect(near.packedBytes * 10 < near.newBytes * 6)
        let strange = try fixture.ingest(SafetensorsFixture.model(seed: 4).bytes, run: "c", step: 1) { $0.packing = .dense }
        #expect(strange.packedBytes * 10 > strange.newBytes * 6)
        try fixture.expectWhole()
    }

    /// `--parent` says what to pack against, whatever the run's order is.
    @Test func parentIsTheBase() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        try fixture.ingest(training.next(), run: "a", step: 1)
        let second = training.next()
        for _ in 0..<30 { _ = training.next() }
        try fixture.ingest(training.next(), run: "b", step: 1) { $0.packing = .dense }
        let fromFar = try fixture.ingest(second, run: "b", step: 2) { $0.parent = "b@1" }
        try fixture.store.remove("b@2")
        let fromNear = try fixture.ingest(second, run: "b", step: 2) { $0.parent = "a@1" }
        #expect(fromNear.packedBytes < fromFar.packedBytes)
        try fixture.expectWhole()
    }

    /// One row, from the top of a full chain.
    @Test func rowsAreReadFromDeepBlocks() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        var steps: [[UInt8]] = []
        for step in 0..<6 {
            steps.append(training.next())
            try fixture.ingest(steps[step], run: "r", step: UInt64(step)) { $0.makesImage = false }
        }
        let contents = try fixture.store.contents("r@5")
        let tensor = try #require(contents.tensors.first { $0.name == "layer.1" })
        let row = try contents.makeReader().withBytes(of: tensor, 192 * 77..<192 * 78) { Array($0) }
        // The last of two tensors of 200 rows of 192 bytes.
        let last = Array(steps[5].suffix(200 * 192))
        #expect(row == Array(last[(192 * 77)..<(192 * 78)]))

        // And all of it at once, on all processors.
        var whole = [UInt8](repeating: 0, count: last.count)
        try whole.withUnsafeMutableBytes { try contents.read(tensor, into: $0) }
        #expect(whole == last)
        #expect(throws: StoreError.self) { try whole.withUnsafeMutableBytes { try contents.read(tensor, into: .init(rebasing: $0.dropLast())) } }
    }
}
