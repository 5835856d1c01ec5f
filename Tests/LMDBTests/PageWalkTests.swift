import Foundation
import TestSupport
import Testing

@testable import LMDB

@Suite struct PageWalkTests {
    /// Whatever LMDB writes has no problems, and every page is accounted for.
    @Test(arguments: FileShape.allCases)
    func filesOfLMDBAreClean(shape: FileShape) throws {
        let scratch = try Scratch()
        let bytes = try shape.bytes(scratch)
        let report = try PageWalk.check(path: scratch.dataPath)
        #expect(report.problems == [], "\(shape)")
        #expect(report.pageSize == 4096 || report.pageSize == Int(sysconf(Int32(_SC_PAGESIZE))))
        let used = try Environment.open(path: scratch.path).usedBytes
        #expect((report.livePages + report.freePages) * UInt64(report.pageSize) == used, "\(shape)")
        #expect(bytes.count <= Int(used))
        switch shape {
        case .noTransaction: #expect(report.livePages == 2 && report.transactionID == 0)
        case .deleted, .emptied, .longFreeList, .rewritten: #expect(report.freePages > 0, "\(shape)")
        default: #expect(report.livePages > 3 || shape == .emptyTable || shape == .oneEntry)
        }
        if shape == .longFreeList { #expect(report.freePages > 1000) }
    }

    /// After every one of many transactions, with a reader that keeps old pages from reuse.
    @Test func everyCommitIsClean() throws {
        var generator = SeededGenerator(test: "everyCommitIsClean")
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        var transactions: UInt64 = 0
        func round() throws {
            try environment.update { transaction in
                let table = try transaction.makeTable("t\(generator.below(3))")
                // Each key once: values written twice have a test of their own.
                for name in (0..<generator.below(80)).map({ _ in generator.below(300) }).reduce(into: Set<Int>(), { $0.insert($1) }).map(key) {
                    if generator.below(3) == 0 {
                        try transaction.delete(table, name)
                    } else {
                        let count = generator.below(6) == 0 ? generator.below(30_000) : generator.below(300)
                        try transaction.put(table, name, [UInt8](repeating: 1, count: count))
                    }
                }
                // An empty transaction leaves no commit behind.
                try transaction.put(transaction.makeTable("rounds"), [1], key(Int(transactions)))
            }
            transactions += 1
            let report = try PageWalk.check(path: scratch.dataPath)
            #expect(report.problems == [], "commit \(transactions), seed \(generator.seed)")
            #expect(report.transactionID == transactions)
        }
        for _ in 0..<40 { try round() }
        let reader = try environment.beginRead()
        for _ in 0..<20 { try round() }
        #expect(try reader.table("rounds") != nil)
    }

    /// A large value made smaller in the transaction that wrote it keeps its pages: LMDB overwrites it where it is.
    @Test func largeValuesWrittenTwice() throws {
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<8 {
                try transaction.put(table, key(number), [UInt8](repeating: 1, count: 20_000))
                try transaction.put(table, key(number), [UInt8](repeating: 2, count: [0, 10, 3000, 9000][number % 4]))
            }
        }
        let problems = try PageWalk.check(path: scratch.dataPath).problems
        #expect(problems == [])
        #expect(try environment.entries("t")?.map(\.value.count) == [0, 10, 3000, 9000, 0, 10, 3000, 9000])
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<8 { try transaction.delete(table, key(number)) }
        }
        #expect(try PageWalk.check(path: scratch.dataPath).problems == [])
    }

    @Test func filesThatAreNone() throws {
        let scratch = try Scratch()
        #expect(throws: LMDBError.self) { try PageWalk.check(path: scratch.dataPath) }
        var generator = SeededGenerator(test: "filesThatAreNone")
        for count in [0, 1, 15, 16, 151, 152, 4095, 4096, 4247, 4248, 8192, 20_000] {
            for bytes in [generator.bytes(count), [UInt8](repeating: 0, count: count), [UInt8](repeating: 0xFF, count: count)] {
                try scratch.writeData(bytes)
                let error = #expect(throws: LMDBError.self, "\(count) bytes") { try PageWalk.check(path: scratch.dataPath) }
                #expect(error?.isDamage == true)
                if count > 0 {
                    #expect(throws: LMDBError.self, "\(count) bytes") { try Environment.open(path: scratch.path) }
                }
            }
        }
    }

    @Test func aTreeThatIsALoopOrSharedIsReported() throws {
        let scratch = try Scratch()
        let bytes = try FileShape.manySmall.bytes(scratch)
        let map = PageMap(bytes)
        let branches = map.pages.filter { $0.kind == .branch }
        try #require(branches.count > 1)
        for branch in branches {
            for target in [branch.number, 0, 1, map.mainRoot, UInt64(bytes.count / map.pageSize), .max >> 16] {
                var damaged = bytes
                let node = branch.start + branch.nodes[branch.nodes.count / 2]
                for (index, shift) in [(0, 0), (1, 8), (2, 16), (3, 24), (4, 32), (5, 40)] {
                    damaged[node + index] = UInt8(truncatingIfNeeded: target >> UInt64(shift))
                }
                try scratch.writeData(damaged)
                #expect(try !PageWalk.check(path: scratch.dataPath).problems.isEmpty, "\(branch.number) to \(target)")
            }
        }
    }

    /// Random damage of any size is no reason to crash or to run for long.
    @Test func heavyDamageIsSurvived() throws {
        var generator = SeededGenerator(test: "heavyDamageIsSurvived")
        let scratch = try Scratch()
        for shape in [FileShape.manySmall, .deleted, .longFreeList, .manyTables] {
            let fresh = try Scratch()
            let bytes = try shape.bytes(fresh)
            for _ in 0..<40 {
                var damaged = bytes
                for _ in 0..<(1 + generator.below(200)) {
                    // Mostly headers: the first words of pages.
                    let place = generator.below(2) == 0 ? generator.below(bytes.count / 4096) * 4096 + generator.below(200) : generator.below(bytes.count)
                    damaged[min(place, bytes.count - 1)] = UInt8(truncatingIfNeeded: generator.next())
                }
                try scratch.writeData(damaged)
                if let report = try? PageWalk.check(path: scratch.dataPath) {
                    #expect(report.problems.count <= PageWalk.maximumProblems)
                    for problem in report.problems.prefix(3) { #expect(problem.description.contains("byte ")) }
                }
            }
        }
    }
}
