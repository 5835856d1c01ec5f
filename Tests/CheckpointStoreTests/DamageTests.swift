import CheckpointStore
import Foundation
import LMDB
import TestSupport
import Testing

/// Damage is found, named with what it harms, and never a crash.
@Suite struct DamageTests {
    /// A store of two runs whose snapshots share all tensors but one.
    private static func damaged(_ damage: (StoreFixture) throws -> Void) throws -> (StoreFixture, VerifyReport) {
        let fixture = try StoreFixture()
        var model = SafetensorsFixture.model(seed: 1, layers: 4)
        try fixture.ingest(model.bytes, run: "one", step: 5)
        model.tensors[2].bytes[0] ^= 1
        try fixture.ingest(model.bytes, run: "two", step: 6) { $0.tags = ["tag"]; $0.pin = true }
        try fixture.expectWhole()
        try damage(fixture)
        return (fixture, try Store.verify(fixture.store.path, depth: .full))
    }

    /// Flips a bit of, or takes out, the first record of `table` that `matches`.
    static func edit(
        _ fixture: StoreFixture, _ table: String, _ matches: ([UInt8]) -> Bool = { _ in true },
        _ change: ([UInt8]) -> [UInt8]?
    ) throws {
        let environment = try Environment.open(path: fixture.store.path + "/gen-1")
        let transaction = try environment.beginWrite()
        let table = try transaction.makeTable(table)
        var found: (key: [UInt8], value: [UInt8])?
        try transaction.scan(table) { key, value in
            let key = key.withUnsafeBytes { Array($0) }
            if matches(key) { found = (key, value.withUnsafeBytes { Array($0) }) }
            return found == nil
        }
        let (key, value) = try #require(found)
        if let changed = change(value) {
            try transaction.put(table, key, changed)
        } else {
            try transaction.delete(table, key)
        }
        try transaction.commit()
    }

    /// The block of a tensor that only `two@6` has.
    private static func block(of name: String, in ref: String, _ fixture: StoreFixture) throws -> ContentID {
        let entry = try fixture.store.snapshot(ref).tensor(name)
        return try ContentID.hash(of: fixture.bytes(of: entry.name, in: ref))
    }

    @Test(arguments: [true, false]) func damagedBlock(_ isMissing: Bool) throws {
        var id = ContentID.hash(of: [])
        let (_, report) = try DamageTests.damaged { fixture in
            id = try DamageTests.block(of: "layers.1.weight", in: "two@6", fixture)
            try DamageTests.edit(fixture, "blocks", { $0 == id.bytes }) { value in
                var value = value
                value[value.count / 2] ^= 4
                return isMissing ? nil : value
            }
        }
        let problem = try #require(report.problems.first { $0.reason.contains("\(id)") })
        #expect(problem.snapshots == ["two@6"])
        #expect(problem.tensors == ["model.safetensors:layers.1.weight"])
        #expect(problem.reason.contains(isMissing ? "missing" : "checksum"))
        // A delta that is gone leaves its base with a count too high.
        #expect(report.problems.allSatisfy { $0.reason.contains("\(id)") || isMissing && $0.reason.contains("count") }, "\(report.problems)")
    }

    @Test func sharedBlockHarmsBoth() throws {
        let (_, report) = try DamageTests.damaged { fixture in
            let id = try DamageTests.block(of: "layers.3.weight", in: "two@6", fixture)
            try DamageTests.edit(fixture, "blocks", { $0 == id.bytes }) { Array($0.dropLast(3)) }
        }
        #expect(report.problems.map(\.snapshots) == [["one@5", "two@6"]])
    }

    @Test func damagedTensor() throws {
        let (fixture, report) = try DamageTests.damaged { fixture in
            let id = try #require(try fixture.store.snapshot("two@6").tensor("layers.1.weight").storage)
            try DamageTests.edit(fixture, "tensors", { $0 == id.bytes }) { value in
                var value = value
                value[20] ^= 1
                return value
            }
        }
        #expect(report.problems.contains { $0.snapshots == ["two@6"] && $0.tensors == ["model.safetensors:layers.1.weight"] }, "\(report.problems)")
        // What is not harmed is still given out; what is, never wrong.
        #expect(try fixture.export("one@5").count == 1)
        #expect { try fixture.export("two@6") } throws: { ($0 as? StoreError)?.code == .damaged }
    }

    @Test func damagedPart() throws {
        let (fixture, report) = try DamageTests.damaged { fixture in
            let part = try DamageTests.onlyPart(of: "two@6", fixture)
            try DamageTests.edit(fixture, "parts", { $0 == part.bytes }) { value in
                var value = value
                value[12] ^= 1
                return value
            }
        }
        #expect(report.problems.contains { $0.snapshots == ["two@6"] }, "\(report.problems)")
        #expect(report.problems.allSatisfy { !$0.snapshots.contains("one@5") }, "\(report.problems)")
        let fresh = try Store.open(fixture.store.path)
        #expect(try fresh.snapshot("one@5").tensors.count == 8)
    }

    private static func onlyPart(of ref: String, _ fixture: StoreFixture) throws -> ContentID {
        // The snapshot record ends with its one part's id, before the checksum.
        let id = try fixture.store.snapshot(ref).id
        let environment = try Environment.open(path: fixture.store.path + "/gen-1")
        let transaction = try environment.beginRead()
        let table = try #require(try transaction.table("snapshots"))
        guard let record = try transaction.get(table, id.bytes) else { throw CancellationError() }
        let value = record.withUnsafeBytes { Array($0) }
        return value.dropLast(8).suffix(32).withUnsafeBytes { ContentID($0) }
    }

    @Test func damagedSnapshotRecord() throws {
        let (_, report) = try DamageTests.damaged { fixture in
            let id = try fixture.store.snapshot("two@6").id
            try DamageTests.edit(fixture, "snapshots", { $0 == id.bytes }) { value in
                var value = value
                value[3] ^= 1
                return value
            }
        }
        #expect(report.problems.contains { $0.snapshots == ["two@6"] && $0.reason.contains("checksum") }, "\(report.problems)")
    }

    @Test func missingSnapshotRecord() throws {
        let (_, report) = try DamageTests.damaged { fixture in
            let id = try fixture.store.snapshot("two@6").id
            try DamageTests.edit(fixture, "snapshots", { $0 == id.bytes }) { _ in nil }
        }
        #expect(report.problems.contains { $0.description.contains("two@6") && $0.reason.contains("missing") }, "\(report.problems)")
    }

    /// One damaged record never hides another.
    @Test(arguments: ["counts", "snapshots", "steps", "tags", "pins", "sources", "images", "parts", "tensors"])
    func everyDamageIsListed(_ table: String) throws {
        var id = ContentID.hash(of: [])
        let (_, report) = try DamageTests.damaged { fixture in
            id = try DamageTests.block(of: "layers.3.weight", in: "two@6", fixture)
            try DamageTests.edit(fixture, "blocks", { $0 == id.bytes }) { value in
                var value = value
                value[value.count / 2] ^= 4
                return value
            }
            if table == "sources" {
                letFilesSettle()
                try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "s", step: 1)
                let path = fixture.path("settled.safetensors")
                try FileTree.write(SafetensorsFixture.model(seed: 8).bytes, to: path)
                letFilesSettle()
                try fixture.ingest(path, run: "s", step: 2)
            }
            try DamageTests.edit(fixture, table) { value in
                var value = value
                value[0] ^= 0x40
                return value
            }
        }
        #expect(report.problems.contains { $0.reason.contains("\(id)") }, "the block: \(report.problems)")
        #expect(report.problems.count >= 2, "the record of \(table): \(report.problems)")
    }

    @Test(arguments: ["blocks", "tensors", "parts", "snapshots", "counts", "steps", "tags", "pins", "images"])
    func missingRecords(_ table: String) throws {
        let (_, report) = try DamageTests.damaged { fixture in try DamageTests.edit(fixture, table) { _ in nil } }
        // A missing name or pin cannot be known.
        if ["tags", "pins", "images"].contains(table) {
            #expect(report.problems.isEmpty, "\(report.problems)")
        } else {
            #expect(!report.problems.isEmpty)
        }
    }

    @Test(arguments: ["blocks", "tensors", "parts", "snapshots", "counts", "steps", "tags", "pins", "images", "superblock"])
    func emptyAndShortRecords(_ table: String) throws {
        for count in [0, 1, 7, 8, 9] {
            let (fixture, report) = try DamageTests.damaged { fixture in
                try DamageTests.edit(fixture, table) { Array($0.prefix(count)) }
            }
            #expect(!report.problems.isEmpty, "\(table) of \(count) bytes")
            _ = try? fixture.store.history()
            _ = try? fixture.export("two@6")
            _ = try? Store.verify(fixture.store.path, depth: .quick)
        }
    }

    @Test func changedAndMissingImages() throws {
        let (fixture, report) = try DamageTests.damaged { fixture in
            let path = try fixture.store.imageDirectory(of: "two@6") + "/model.safetensors"
            var bytes = try FileTree.bytes(path)
            bytes[bytes.count - 7] ^= 1
            try FileTree.write(bytes, to: path)
        }
        #expect(report.problems.count == 1)
        #expect(report.problems[0].reason.contains("model.safetensors") && report.problems[0].reason.contains("byte"))
        let id = try fixture.store.snapshot("two@6").id
        #expect(report.problems[0].reason.contains(id.short))
        // Blocks are the truth: an export is right all the same.
        let original = try fixture.export("two@6")

        let image = try fixture.store.imageDirectory(of: "two@6")
        try FileManager.default.removeItem(atPath: image + "/model.safetensors")
        let missing = try Store.verify(fixture.store.path, depth: .full)
        #expect(missing.problems.count == 1 && missing.problems[0].reason.contains("missing"))
        #expect(try fixture.export("two@6") == original)
        // Reading goes on from the blocks.
        #expect(try fixture.bytes(of: "layers.1.weight", in: "two@6").count == 64 * 48 * 2)
        try FileTree.write([1, 2, 3], to: image + "/model.safetensors")
        let short = try Store.verify(fixture.store.path, depth: .full)
        #expect(short.problems.count == 1 && short.problems[0].reason.contains("3 bytes"))
        // As the hint says.
        #expect(short.problems[0].reason.contains("remove the directory images/\(id)"))
        try FileManager.default.removeItem(atPath: image)
        #expect(try FileTree.contents(of: fixture.store.imageDirectory(of: "two@6")) == original)
        try fixture.expectWhole()
    }

    @Test func truncatedDataFile() throws {
        let (fixture, _) = try DamageTests.damaged { _ in }
        let directory = try TemporaryDirectory()
        let copy = directory.path + "/store"
        let size = try FileTree.bytes(fixture.store.path + "/gen-1/data.mdb").count
        for count in [0, 1, 100, 4095, 4096, 8192, size / 4, size / 2, size - 4096, size - 1] {
            try? FileManager.default.removeItem(atPath: copy)
            try FileManager.default.copyItem(atPath: fixture.store.path, toPath: copy)
            let file = try #require(FileHandle(forWritingAtPath: copy + "/gen-1/data.mdb"))
            try file.truncate(atOffset: UInt64(count))
            try file.close()
            let report = try Store.verify(copy, depth: .full)
            let refusal = try storeError { _ = try Store.open(copy).history() }
            // Where only pages that nothing uses were lost, all is well.
            #expect(report.problems.isEmpty == (refusal == nil), "\(count) of \(size) bytes")
            if let refusal {
                #expect(refusal.code == .damaged, "\(refusal)")
                #expect(!refusal.description.contains("\n"))
            }
            let after = try FileManager.default.attributesOfItem(atPath: copy + "/gen-1/data.mdb")[.size] as? Int
            #expect(after == count, "looking changes nothing")
        }
        try FileManager.default.removeItem(atPath: copy + "/gen-1/data.mdb")
        #expect { try Store.open(copy) } throws: { ($0 as? StoreError)?.code == .damaged }
        #expect(try Store.verify(copy, depth: .quick).problems.isEmpty == false)
    }

    @Test(arguments: ["", "gen-1", "gen-0\n", "gen-2\n", "x\n", "../gen-1\n", String(repeating: "x", count: 100)])
    func wrongCurrent(_ text: String) throws {
        let (fixture, report) = try DamageTests.damaged { fixture in
            try FileTree.write(text, to: fixture.store.path + "/current")
        }
        #expect(!report.problems.isEmpty)
        #expect { try Store.open(fixture.store.path) } throws: { ($0 as? StoreError)?.code == .damaged }
    }

    /// In other processes, as a crash would end this one: whatever bit is flipped, `verify` ends with 0 or 2.
    @Test func flippedBitsNeverCrashVerify() throws {
        let (fixture, _) = try DamageTests.damaged { _ in }
        let path = fixture.store.path + "/gen-1/data.mdb"
        let original = try FileTree.bytes(path)
        let directory = try TemporaryDirectory()
        let copy = directory.path + "/store"
        try FileManager.default.copyItem(atPath: fixture.store.path, toPath: copy)
        var random = SeededBytes(21)
        var found = 0
        let rounds = runsSlowTests ? 1500 : 60
        for round in 0..<rounds {
            var bytes = original
            // Every other flip in the heads of pages, where it hurts LMDB.
            let page = Int(random.next() % UInt64(original.count / 4096)) * 4096
            let place = round % 2 == 0 ? page + Int(random.next() % 64) : Int(random.next() % UInt64(original.count))
            bytes[place] ^= 1 << UInt8(random.next() % 8)
            try FileTree.write(bytes, to: copy + "/gen-1/data.mdb")
            let outcome = try Command.run(["verify", "--store", copy, "--json"])
            #expect(outcome.status == 0 || outcome.status == 2, "byte \(place) of \(original.count): \(outcome)")
            if outcome.status == 2 { found += 1 }
        }
        #expect(found > rounds / 10)
    }
}
