import Foundation
import TestSupport
import Testing

@testable import LMDB

@Suite struct TransactionTests {
    let scratch: Scratch
    let environment: Environment

    init() throws {
        scratch = try Scratch()
        environment = try Environment.open(path: scratch.path)
    }

    @Test func valuesOfEveryLengthComeBack() throws {
        var generator = SeededGenerator(test: "valuesOfEveryLengthComeBack")
        // Inline, around the limit of inline values, and on pages of their own.
        let lengths = Array(0...17) + Array(2010...2050) + [4079, 4080, 4081, 8176, 100_000, 300_000]
        let values = lengths.map { generator.bytes($0) }
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for (index, value) in values.enumerated() { try transaction.put(table, key(index), value) }
            // Visible to the one that wrote them, before the commit.
            for (index, value) in values.enumerated() {
                #expect(try transaction.get(table, key(index))?.array == value, "seed \(generator.seed)")
            }
        }
        let transaction = try environment.beginRead()
        let table = try #require(try transaction.table("t"))
        #expect(try transaction.count(table) == values.count)
        for (index, value) in values.enumerated() {
            let found = try transaction.get(table, key(index))?.array
            #expect(found == value, "\(value.count) bytes, seed \(generator.seed)")
        }
        #expect(try transaction.get(table, key(values.count)) == nil)
        #expect(try !transaction.contains(table, [9]))
        #expect(try transaction.contains(table, key(0)))
    }

    @Test func reservedValuesAreWrittenInPlace() throws {
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for count in [0, 1, 100, 2000, 5000, 300_000] {
                var offered = -1
                try transaction.put(table, key(count), count: count) { buffer in
                    offered = buffer.count
                    for index in 0..<buffer.count { buffer[index] = UInt8(truncatingIfNeeded: index * 7 + count) }
                }
                #expect(offered == count)
            }
            // In the place of another value, longer and shorter.
            try transaction.put(table, key(100), count: 3000) { $0.initializeMemory(as: UInt8.self, repeating: 1) }
            try transaction.put(table, key(2000), count: 2) { $0.initializeMemory(as: UInt8.self, repeating: 2) }
        }
        let entries = try #require(try environment.entries("t"))
        let wanted = [0, 1, 100, 2000, 5000, 300_000].map { count -> [UInt8] in
            switch count {
            case 100: [UInt8](repeating: 1, count: 3000)
            case 2000: [2, 2]
            default: (0..<count).map { UInt8(truncatingIfNeeded: $0 * 7 + count) }
            }
        }
        #expect(entries.map(\.value) == wanted)
    }

    @Test func puttingAgainReplacesAndDeletingTells() throws {
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            try transaction.put(table, [1], [10])
            try transaction.put(table, [1], [11, 12])
            #expect(try transaction.count(table) == 1)
            #expect(try transaction.get(table, [1])?.array == [11, 12])
            #expect(try transaction.delete(table, [1]))
            #expect(try !transaction.delete(table, [1]))
            #expect(try transaction.get(table, [1]) == nil)
            #expect(try transaction.count(table) == 0)
        }
    }

    @Test func tablesAreApart() throws {
        try environment.update { transaction in
            let first = try transaction.makeTable("a")
            let second = try transaction.makeTable("b")
            #expect(first.name == "a" && first != second)
            #expect(try transaction.makeTable("a") == first)
            try transaction.put(first, [1], [1])
            try transaction.put(second, [1], [2])
            #expect(try transaction.delete(first, [1]))
            #expect(try transaction.get(second, [1])?.array == [2])
            #expect(try transaction.table("c") == nil)
        }
        #expect(try environment.entries("b")?.count == 1)
        #expect(try environment.entries("a")?.isEmpty == true)
        #expect(try environment.entries("c") == nil)
    }

    /// Against a dictionary, over many transactions, some of them dropped.
    @Test func agreesWithADictionary() throws {
        var generator = SeededGenerator(test: "agreesWithADictionary")
        var committed: [[UInt8]: [UInt8]] = [:]
        for round in 0..<60 {
            var model = committed
            let commits = generator.below(4) != 0
            let transaction = try environment.beginWrite()
            let table = try transaction.makeTable("t")
            for _ in 0..<generator.below(60) {
                let key = generator.bytes(1 + generator.below(generator.below(10) == 0 ? 511 : 2))
                if generator.below(3) == 0 {
                    #expect(try transaction.delete(table, key) == (model.removeValue(forKey: key) != nil), "seed \(generator.seed)")
                } else {
                    let value = generator.bytes(generator.below(generator.below(8) == 0 ? 9000 : 60))
                    try transaction.put(table, key, value)
                    model[key] = value
                }
            }
            if commits {
                try transaction.commit()
                committed = model
            } else {
                transaction.abort()
            }
            guard !committed.isEmpty || commits else { continue }
            let entries = try environment.entries("t") ?? []
            let sorted = committed.sorted { $0.key.lexicographicallyPrecedes($1.key) }
            #expect(entries.map(\.key) == sorted.map(\.key), "round \(round), seed \(generator.seed)")
            #expect(entries.map(\.value) == sorted.map(\.value), "round \(round), seed \(generator.seed)")
        }
    }

    @Test func droppedTransactionsChangeNothing() throws {
        try environment.update { try $0.put($0.makeTable("t"), [1], [1]) }
        // Out of scope.
        do {
            let transaction = try environment.beginWrite()
            try transaction.put(transaction.makeTable("t"), [2], [2])
            _ = try transaction.makeTable("never")
        }
        // By an error.
        struct Stop: Error {}
        #expect(throws: Stop.self) {
            try environment.update { transaction in
                try transaction.put(transaction.makeTable("t"), [3], [3])
                throw Stop()
            }
        }
        // By name.
        let transaction = try environment.beginWrite()
        try transaction.put(transaction.makeTable("t"), [4], [4])
        transaction.abort()
        // The writer's lock is free again, and nothing of it is left.
        try environment.update { try $0.put($0.makeTable("t"), [5], [5]) }
        #expect(try environment.entries("t")?.map(\.key) == [[1], [5]])
        #expect(try environment.entries("never") == nil)
    }

    @Test func readersKeepTheirSnapshot() throws {
        try environment.update { try $0.put($0.makeTable("t"), [1], [1]) }
        let before = try environment.beginRead()
        let table = try #require(try before.table("t"))
        for round in 0..<20 {
            try environment.update { transaction in
                try transaction.put(table, [1], [UInt8(round + 2)])
                try transaction.put(table, [2, UInt8(round)], [UInt8](repeating: UInt8(round), count: 6000))
                if round == 10 { try transaction.delete(table, [1]) }
            }
            #expect(try before.get(table, [1])?.array == [1])
            #expect(try before.count(table) == 1)
            let after = try environment.beginRead()
            #expect(try after.get(table, [1])?.array == (round == 10 ? nil : [UInt8(round + 2)]))
            #expect(try after.count(table) == round + (round == 10 ? 1 : 2))
        }
    }

    /// A reader's value stays where and what it is while its pages are freed and others are written.
    @Test func valuesStayInPlaceForTheirReader() throws {
        let value = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 * 31) }
        try environment.update { try $0.put($0.makeTable("t"), [1], value) }
        let reader = try environment.beginRead()
        let table = try #require(try reader.table("t"))
        guard let span = try reader.get(table, [1]) else {
            Issue.record("the value is gone")
            return
        }
        for round in 0..<8 {
            try environment.update { try $0.put(table, [1], [UInt8](repeating: UInt8(round), count: 50_000)) }
        }
        #expect(span.array == value)
    }

    @Test func tablesOpenedByAReaderServeOthersAfterItsCommit() throws {
        try environment.update { try $0.put($0.makeTable("t"), [1], [1]) }
        let table = try opened("t")
        let other = try environment.beginRead()
        #expect(try other.get(table, [1])?.array == [1])
    }

    private func opened(_ name: String) throws -> Table {
        let opener = try environment.beginRead()
        guard let table = try opener.table(name) else { throw LMDBError(code: ENOENT, operation: "table") }
        try opener.commit()
        return table
    }

    @Test func writersTakeTurns() async throws {
        try environment.update { try $0.put($0.makeTable("t"), [0], [0, 0, 0, 0]) }
        let environment = environment
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<25 { try increment(environment) }
                }
            }
            try await group.waitForAll()
        }
        #expect(try environment.entries("t")?.first?.value == key(100))
    }

    @Test func errorsKeepTheirCodes() throws {
        let transaction = try environment.beginWrite()
        let table = try transaction.makeTable("t")
        // MDB_BAD_VALSIZE: no key, and one over 511 bytes.
        for bad in [[], [UInt8](repeating: 1, count: 512)] as [[UInt8]] {
            let error = #expect(throws: LMDBError.self) { try transaction.put(table, bad, [1]) }
            #expect(error?.code == -30781 && error?.operation == "mdb_put")
            #expect(error?.description.hasPrefix("mdb_put: MDB_BAD_VALSIZE") == true)
            #expect(error?.isDamage == false && error?.isDiskFull == false)
        }
        try transaction.put(table, [UInt8](repeating: 1, count: 511), [1])
        transaction.abort()

        let missing = #expect(throws: LMDBError.self) { try Environment.open(path: scratch.path + "/nowhere") }
        #expect(missing?.code == ENOENT && missing?.operation == "mdb_env_open")
    }

    @Test func moreTablesThanAllowed() throws {
        let other = try Scratch()
        let environment = try Environment.open(path: other.path, maximumTables: 2)
        let transaction = try environment.beginWrite()
        _ = try transaction.makeTable("a")
        _ = try transaction.makeTable("b")
        let error = #expect(throws: LMDBError.self) { try transaction.makeTable("c") }
        #expect(error?.code == -30791)  // MDB_DBS_FULL
    }

    @Test func codesSayWhatTheyMean() {
        #expect(LMDBError(code: ENOSPC, operation: "x").isDiskFull)
        #expect(LMDBError(code: EDQUOT, operation: "x").isDiskFull)
        for code in [-30796, -30797, -30793] as [Int32] { #expect(LMDBError(code: code, operation: "x").isDamage) }
        #expect(!LMDBError(code: -30792, operation: "x").isDamage)
        #expect(LMDBError(code: EIO, operation: "x", reason: "y").description == "x: y")
    }
}

/// Adds one to the counter under [0].
private func increment(_ environment: Environment) throws {
    try environment.update { transaction in
        let table = try transaction.makeTable("t")
        let old = try transaction.get(table, [0])!.array
        let number = old.reduce(0) { $0 << 8 | Int($1) }
        try transaction.put(table, [0], key(number + 1))
    }
}
