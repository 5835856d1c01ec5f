import Foundation
import TestSupport
import Testing

@testable import LMDB

/// A data file cut short is refused before it is mapped, or has lost nothing but free pages.
@Suite struct TruncationTests {
    @Test(arguments: [FileShape.oneEntry, .mixed, .deleted, .emptied, .manyTables, .longFreeList])
    func cutAtManyLengths(shape: FileShape) throws {
        var generator = SeededGenerator(test: "cutAtManyLengths(\(shape))")
        let original = try Scratch()
        let bytes = try shape.bytes(original)
        let names = ["t"] + (0..<20).map { "table \($0)" }
        let wanted = try contents(original, names)
        var lengths: Set<Int> = [1, 15, 16, 100, 151, 152, 4095, 4096, 4097, 4247, 4248, 8191, 8192, bytes.count - 1]
        for page in stride(from: 0, to: bytes.count, by: max(4096, bytes.count / 30 / 4096 * 4096)) {
            lengths.formUnion([page - 1, page, page + 1, page + 16, page + generator.below(4096)])
        }
        var refused = 0
        for length in lengths.sorted() where length > 0 && length < bytes.count {
            let scratch = try Scratch()
            try scratch.writeData(Array(bytes[..<length]))
            do {
                let error = try refusal(scratch)
                if let error {
                    refused += 1
                    #expect(error.isDamage, "\(length) of \(bytes.count), seed \(generator.seed)")
                    #expect(error.description.contains(scratch.dataPath), "\(error)")
                } else {
                    // Every live page must be there: reads past the end would be SIGBUS and end this run.
                    #expect(try contents(scratch, names) == wanted, "\(length) of \(bytes.count), seed \(generator.seed)")
                    try Environment.open(path: scratch.path).update { try $0.put($0.makeTable("t"), [9, 9], [1]) }
                    #expect(try PageWalk.check(path: scratch.dataPath).problems == [])
                }
            }
            // Refused or not, nothing is written to a file by opening it.
            if refused > 0, length < 8192 { #expect(try scratch.dataBytes() == Array(bytes[..<length])) }
        }
        #expect(refused > 10)
    }

    private func refusal(_ scratch: Scratch) throws -> LMDBError? {
        do throws(LMDBError) {
            _ = try Environment.open(path: scratch.path)
            return nil
        } catch {
            return error
        }
    }

    private func contents(_ scratch: Scratch, _ names: [String]) throws -> [[[UInt8]]] {
        let environment = try Environment.open(path: scratch.path)
        return try names.map { name in try environment.entries(name)?.flatMap { [$0.key, $0.value] } ?? [] }
    }

    /// The whole file, and one with more behind it, are opened.
    @Test func wholeFilesAreNotRefused() throws {
        let scratch = try Scratch()
        let bytes = try FileShape.mixed.bytes(scratch)
        #expect(throws: Never.self) { try DataFileHeader.checkLength(of: scratch.dataPath) }
        try scratch.writeData(bytes + [UInt8](repeating: 1, count: 5000))
        #expect(throws: Never.self) { try DataFileHeader.checkLength(of: scratch.dataPath) }
        #expect(try Environment.open(path: scratch.path).entries("t")?.count == 400)
        // An empty or missing file is a new one.
        try scratch.writeData([])
        #expect(throws: Never.self) { try DataFileHeader.checkLength(of: scratch.dataPath) }
        #expect(throws: Never.self) { try DataFileHeader.checkLength(of: scratch.path + "/nowhere") }
    }
}
