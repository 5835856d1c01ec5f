#if DEBUG
@testable import CheckpointStore
import Foundation
import LMDB
import TestSupport
import Testing

/// Damage under right checksums: bugs and forgeries.
@Suite struct ForgedRecordTests {
    private func forged(_ change: (borrowing WriteTransaction, Tables, Store) throws -> Void) throws -> VerifyReport {
        let fixture = try StoreFixture()
        try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
        try fixture.store.tag("r", as: "t")
        try fixture.store.write(making: .probes) { _, _ in }
        try fixture.store.write(making: .retention) { transaction, tables in try change(transaction, tables, fixture.store) }
        return try Store.verify(fixture.store.path, depth: .full)
    }

    @Test(arguments: [0, 2, UInt64.max]) func wrongCounts(_ count: UInt64) throws {
        for kind in [Kind.block, .tensor, .part, .snapshot] {
            var name = ""
            let report = try forged { transaction, tables, _ in
                var id: ContentID?
                try transaction.scan(tables[kind]) { key, _ in
                    id = key.withUnsafeBytes { ContentID($0) }
                    return false
                }
                name = "\(id!)"
                var record = try transaction.count(tables, kind, id!)!
                record.count = count
                try transaction.putCount(tables, kind, id!, record)
            }
            #expect(report.problems.count == 1 && report.problems.first?.reason.contains(name) == true, "\(report.problems)")
            // A count of 0 is damage by itself.
            let isNamed = report.problems.first?.reason.contains("counted \(count) times, but used 1 times") == true
            #expect(isNamed || count == 0, "\(report.problems)")
        }
    }

    @Test func leftOverRecords() throws {
        let report = try forged { transaction, tables, _ in
            try transaction.putRecord(tables, .block, [UInt8](repeating: 7, count: 32), [1, 2, 3])
        }
        #expect(report.problems.contains { $0.reason.contains("has no count") })
    }

    @Test(arguments: Kind.allCases) func keysOfTheWrongLength(_ kind: Kind) throws {
        // A second superblock is never read.
        guard kind != .superblock else { return }
        for count in [5, 31, 40] {
            for value in [[], [UInt8](repeating: 1, count: 32)] {
                let report = try forged { transaction, tables, _ in
                    try transaction.putRecord(tables, kind, [UInt8](repeating: 0x61, count: count), value)
                }
                #expect(!report.problems.isEmpty, "\(kind) with a key of \(count) bytes")
            }
        }
    }

    @Test(arguments: Kind.allCases) func valuesOfTheWrongForm(_ kind: Kind) throws {
        var random = SeededBytes(3)
        for count in [0, 31, 33, 100] {
            let value = random.bytes(count)
            let report = try forged { transaction, tables, store in
                var key: [UInt8] = [UInt8](repeating: 1, count: 32)
                try transaction.scan(tables[kind]) { first, _ in
                    key = first.withUnsafeBytes { Array($0) }
                    return false
                }
                try transaction.putRecord(tables, kind, key, value)
            }
            #expect(!report.problems.isEmpty, "\(kind) of \(count) bytes")
        }
    }

    @Test func featuresOfTheFuture() throws {
        for (incompatible, readCompatible) in [(UInt64(1), UInt64(0)), (0, 1 << 63)] {
            let fixture = try StoreFixture()
            try fixture.ingest(SafetensorsFixture.model(seed: 1).bytes, run: "r", step: 1)
            try fixture.store.write { transaction, tables in
                var superblock = try Superblock.read(transaction, tables)
                superblock.incompatible = incompatible
                superblock.readCompatible = readCompatible
                try transaction.putRecord(tables, .superblock, Superblock.key, superblock.encoded)
            }
            if incompatible != 0 {
                #expect { try Store.open(fixture.store.path) } throws: { ($0 as? StoreError)?.code == .incompatible }
            } else {
                let store = try Store.open(fixture.store.path)
                #expect(try store.history().count == 1)
                #expect { try store.tag("r", as: "t") } throws: { ($0 as? StoreError)?.code == .incompatible }
                #expect { try store.remove("r") } throws: { ($0 as? StoreError)?.code == .incompatible }
                #expect(try store.history().count == 1)
            }
        }
    }
}
#endif
