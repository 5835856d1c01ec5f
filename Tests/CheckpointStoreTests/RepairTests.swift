import CheckpointStore
import Foundation
import TestSupport
import Testing

/// What is damaged is mended from what has its bytes, and the rest stays usable.
@Suite struct RepairTests {
    /// A run of five steps of a fine-tune, each from a file of its own; and the blocks of each.
    private func fixture(image: Bool = true, keepsSources: Bool = true) throws -> (StoreFixture, [UInt64: [UInt8]]) {
        let fixture = try StoreFixture()
        var training = FineTune()
        var steps: [UInt64: [UInt8]] = [:]
        for step: UInt64 in 1...5 {
            steps[step] = training.next()
            try FileTree.write(steps[step]!, to: fixture.path("run/checkpoint-\(step)/model.safetensors"))
        }
        try fixture.ingest(fixture.path("run")) { $0.makesImage = image }
        try FileManager.default.moveItem(atPath: fixture.path("run"), toPath: fixture.path("originals"))
        if keepsSources { try FileManager.default.copyItem(atPath: fixture.path("originals"), toPath: fixture.path("run")) }
        return (fixture, steps)
    }

    private func block(_ step: UInt64, _ fixture: StoreFixture, layer: Int = 0) throws -> ContentID {
        try ContentID.hash(of: fixture.bytes(of: "layer.\(layer)", in: "run@\(step)"))
    }

    private func damage(_ id: ContentID, _ fixture: StoreFixture, _ table: String = "blocks", isMissing: Bool = false) throws {
        try DamageTests.edit(fixture, table, { $0 == id.bytes }) { value in
            var value = value
            value[value.count / 2] ^= 4
            return isMissing ? nil : value
        }
    }

    private func expectExports(_ fixture: StoreFixture, _ steps: [UInt64: [UInt8]], but lost: Set<UInt64> = []) throws {
        for (step, bytes) in steps {
            if lost.contains(step) {
                #expect(throws: StoreError.self, "\(step)") { try fixture.export("run@\(step)") }
            } else {
                #expect(try fixture.export("run@\(step)")["model.safetensors"] == Data(bytes), "\(step)")
            }
        }
    }

    @Test(arguments: [true, false], [1, 3, 5] as [UInt64]) func fromWhereItCame(isMissing: Bool, step: UInt64) throws {
        let (fixture, steps) = try fixture()
        let id = try block(step, fixture)
        try damage(id, fixture, isMissing: isMissing)
        let result = try Store.repair(fixture.store.path)
        #expect(result.recovered.map(\.what) == ["block \(id)"])
        #expect(result.recovered[0].source.contains(step == 5 ? "images/" : "run/checkpoint-\(step)/"))
        #expect(result.lost.isEmpty && result.report.problems.isEmpty, "\(result.lost)")
        try fixture.expectWhole()
        try expectExports(fixture, steps)
    }

    @Test func fromAnOriginal() throws {
        let (fixture, steps) = try fixture(image: false, keepsSources: false)
        let id = try block(2, fixture)
        try damage(id, fixture)
        for path in ["originals", "originals/checkpoint-2", "originals/checkpoint-2/model.safetensors"] {
            let copy = fixture.path("copy-" + path.replacing("/", with: "-"))
            try FileManager.default.copyItem(atPath: fixture.store.path, toPath: copy)
            let result = try Store.repair(copy, from: [fixture.path(path)])
            #expect(result.recovered.count == 1 && result.report.problems.isEmpty, "\(path): \(result)")
        }
        let outcome = try Command.run(["verify", "--repair", "--from", fixture.path("originals"), "--store", fixture.store.path])
        #expect(outcome.status == 0 && outcome.output.contains("recovered: block \(id)") && outcome.output.contains("whole: "), "\(outcome)")
        try expectExports(fixture, steps)
    }

    /// Bytes that are not right are not taken.
    @Test func falseOriginals() throws {
        let (fixture, _) = try fixture(image: false, keepsSources: false)
        try damage(block(2, fixture), fixture)
        var bytes = try FileTree.bytes(fixture.path("originals/checkpoint-2/model.safetensors"))
        for index in 200..<bytes.count { bytes[index] ^= 1 }
        try FileTree.write(bytes, to: fixture.path("originals/checkpoint-2/model.safetensors"))
        let result = try Store.repair(fixture.store.path, from: [fixture.path("originals")])
        #expect(result.recovered.allSatisfy { !$0.source.contains("checkpoint-2") } && !result.lost.isEmpty)
    }

    /// What cannot be recovered is named; everything else is whole, and the same bytes mend it.
    @Test func quarantine() throws {
        let (fixture, steps) = try fixture(image: false, keepsSources: false)
        let id = try block(3, fixture)
        try damage(id, fixture)
        let outcome = try Command.run(["verify", "--repair", "--store", fixture.store.path])
        #expect(outcome.status == 2 && outcome.output.contains("quarantined") && outcome.output.contains("run@3"), "\(outcome)")
        let report = try Store.verify(fixture.store.path, depth: .full)
        #expect(report.problems.allSatisfy { $0.reason.contains("quarantined") }, "\(report.problems)")
        // Those that hang on it are lost with it, where no copy of them was found.
        let lost = Set(report.problems.flatMap(\.snapshots).compactMap { UInt64($0.split(separator: "@")[1]) })
        #expect(lost.contains(3) && !lost.contains(1) && !lost.contains(2))
        try expectExports(fixture, steps, but: lost)
        // The store goes on.
        var training = FineTune()
        for _ in 0..<5 { _ = training.next() }
        try fixture.ingest(training.next(), run: "run", step: 6)
        #expect(try Store.verify(fixture.store.path, depth: .full).problems.count == report.problems.count)
        // The originals, taken in again, are all that is needed.
        try fixture.ingest(fixture.path("originals"), run: "again") { $0.makesImage = false }
        try fixture.expectWhole()
        try expectExports(fixture, steps)
    }

    /// Quarantined blocks go like others.
    @Test func quarantinedSnapshotsCanGo() throws {
        let (fixture, steps) = try fixture(image: false, keepsSources: false)
        try damage(block(3, fixture), fixture)
        let result = try Store.repair(fixture.store.path)
        let lost = Set(result.lost.flatMap(\.snapshots))
        for ref in lost { try fixture.store.remove(ref) }
        try fixture.expectWhole()
        try expectExports(fixture, steps.filter { !lost.contains("run@\($0.key)") })
    }

    @Test func damagedTensorsAndCounts() throws {
        let (fixture, steps) = try fixture()
        let tensor = try #require(try fixture.store.snapshot("run@2").tensor("layer.1").storage)
        try damage(tensor, fixture, "tensors")
        let id = try block(4, fixture)
        try DamageTests.edit(fixture, "counts", { $0 == [2] + id.bytes }) { value in nil }
        let result = try Store.repair(fixture.store.path)
        #expect(result.recovered.contains { $0.what == "tensor \(tensor)" } && result.report.problems.isEmpty, "\(result)")
        try fixture.expectWhole()
        try expectExports(fixture, steps)
    }

    @Test func damagedImage() throws {
        let (fixture, steps) = try fixture()
        let path = try fixture.store.imageDirectory(of: "run") + "/model.safetensors"
        var bytes = try FileTree.bytes(path)
        bytes[bytes.count - 7] ^= 1
        try FileManager.default.removeItem(atPath: path)
        try FileTree.write(bytes, to: path)
        #expect(try !Store.verify(fixture.store.path, depth: .full).problems.isEmpty)
        let result = try Store.repair(fixture.store.path)
        #expect(result.images == 1 && result.report.problems.isEmpty && result.recovered.isEmpty)
        #expect(try FileTree.bytes(fixture.store.imageDirectory(of: "run") + "/model.safetensors") == steps[5])
        try fixture.expectWhole()
    }

    @Test func wholeStoreStaysAsItIs() throws {
        let (fixture, _) = try fixture()
        let before = try fixture.state()
        let result = try Store.repair(fixture.store.path)
        #expect(result.recovered.isEmpty && result.counts == 0 && result.images == 0 && result.report.problems.isEmpty)
        #expect(try fixture.state() == before)
        #expect(try Command.run(["verify", "--repair", "--from", "/nowhere", "--store", fixture.store.path]).status == 65)
        #expect(try Command.run(["verify", "--from", "/tmp", "--store", fixture.store.path]).status == 64)
    }

    /// A record that cannot be read used something: nothing is taken for unused then.
    @Test(arguments: ["steps", "snapshots", "parts", "tensors"]) func nothingIsDeletedForWantOfARecord(_ table: String) throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        for step in 1...3 as ClosedRange<UInt64> { try fixture.ingest(training.next(), step: step) { $0.makesImage = false } }
        let (blocks, snapshots) = (try fixture.store.stats().blocks, try fixture.store.history())
        try FileManager.default.removeItem(atPath: fixture.path("sources"))
        try fixture.editRecord(table, [0]) { $0[$0.count - 1] ^= 4 }
        _ = try Store.repair(fixture.store.path)
        let store = try Store.open(fixture.store.path)
        #expect(try Store.verify(store.path, depth: .full).blocks == blocks)
        // All others are whole; of a step only the name is lost.
        var whole = 0
        for entry in snapshots where (try? fixture.export("\(entry.id)")) != nil { whole += 1 }
        #expect(whole >= (table == "steps" ? 3 : 2) || table == "tensors", "\(whole)")
    }

    /// Records of every kind, with the checkpoints they came from still there.
    @Test(arguments: ["steps", "snapshots", "parts", "tensors"]) func recordsFromTheirOriginals(_ table: String) throws {
        let fixture = try StoreFixture()
        for step in 1...3 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        try fixture.ingest(fixture.path("out"))
        let before = try fixture.store.history().map { ["\($0.run)@\($0.step)", "\($0.id)"] }
        try fixture.editRecord(table, [0]) { $0[$0.count - 12] ^= 4 }
        #expect(try Store.verify(fixture.store.path, depth: .full).problems.isEmpty == false)
        let result = try Store.repair(fixture.store.path)
        #expect(result.lost.map(\.description) == [] && result.recovered.count == 1, "\(result)")
        try fixture.expectWhole()
        #expect(try fixture.store.history().map { ["\($0.run)@\($0.step)", "\($0.id)"] } == before)
        for step in 1...3 {
            #expect(FileTree.differences(try fixture.export("out@\(step)"), try FileTree.contents(of: fixture.path("out/checkpoint-\(step)"))) == [])
        }
    }
}
