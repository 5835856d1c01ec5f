import TestSupport
import Testing

@testable import LMDB

@Suite struct CursorTests {
    let scratch: Scratch
    let environment: Environment

    init() throws {
        scratch = try Scratch()
        environment = try Environment.open(path: scratch.path)
    }

    @Test func anEmptyTableHasNoPlaces() throws {
        let transaction = try environment.beginWrite()
        let table = try transaction.makeTable("t")
        try transaction.withCursor(table) { cursor in
            let found = try [
                cursor.first(), cursor.last(), cursor.next(), cursor.previous(), cursor.seek(atLeast: [0]),
            ]
            #expect(!found.contains(true))
        }
    }

    /// Both ways and from every place, against a sorted array.
    @Test func walksLikeASortedArray() throws {
        var generator = SeededGenerator(test: "walksLikeASortedArray")
        var model: [[UInt8]: [UInt8]] = [:]
        for _ in 0..<700 {
            let key = generator.bytes(1 + generator.below(3))
            model[key] = generator.bytes(generator.below(40))
        }
        let sorted = model.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for (key, value) in model { try transaction.put(table, key, value) }
        }
        let transaction = try environment.beginRead()
        let table = try #require(try transaction.table("t"))
        try transaction.withCursor(table) { cursor in
            var forward: [[UInt8]] = []
            var more = try cursor.first()
            while more {
                forward.append(cursor.key.array)
                #expect(cursor.value.array == model[cursor.key.array])
                more = try cursor.next()
            }
            #expect(forward == sorted.map(\.key), "seed \(generator.seed)")
            var backward: [[UInt8]] = []
            more = try cursor.last()
            while more {
                backward.append(cursor.key.array)
                more = try cursor.previous()
            }
            #expect(backward == forward.reversed(), "seed \(generator.seed)")

            for _ in 0..<500 {
                let wanted = generator.bytes(1 + generator.below(4))
                let index = sorted.firstIndex { !$0.key.lexicographicallyPrecedes(wanted) }
                let found = try cursor.seek(atLeast: wanted)
                #expect(found == (index != nil), "\(wanted), seed \(generator.seed)")
                guard let index, found else { continue }
                #expect(cursor.key.array == sorted[index].key, "\(wanted), seed \(generator.seed)")
                #expect(cursor.value.array == sorted[index].value)
                #expect(try cursor.next() == (index + 1 < sorted.count))
                if index + 1 < sorted.count { #expect(cursor.key.array == sorted[index + 1].key) }
            }
        }
    }

    @Test func scansFromAKeyUntilToldToStop() throws {
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<10 { try transaction.put(table, key(number * 2), [UInt8(number)]) }
        }
        let transaction = try environment.beginRead()
        let table = try #require(try transaction.table("t"))
        var seen: [UInt8] = []
        try transaction.scan(table, from: key(5)) { _, value in
            seen += value.array
            return seen.count < 4
        }
        #expect(seen == [3, 4, 5, 6])
        seen = []
        try transaction.scan(table, from: key(19)) { _, value in
            seen += value.array
            return true
        }
        #expect(seen == [])
        try transaction.scan(table) { _, value in
            seen += value.array
            return true
        }
        #expect(seen == Array(0..<10))
    }

    /// An error in the body ends the scan, is passed on and leaves the transaction usable.
    @Test func errorsPassThroughAScan() throws {
        struct Stop: Error {}
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<10 { try transaction.put(table, key(number), [1]) }
            #expect(throws: Stop.self) { try transaction.scan(table) { _, _ in throw Stop() } }
            try transaction.put(table, key(99), [2])
        }
        #expect(try environment.entries("t")?.count == 11)
    }
}
