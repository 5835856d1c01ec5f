import Foundation
import TestSupport
import Testing

@testable import LMDB

/// Every bit of the structures of a small data file, flipped by itself.
@Suite struct BitFlipTests {
    /// A file of all kinds of pages: branches, leaves, large values, tables empty and not, a free list.
    private func makeFile(_ scratch: Scratch) throws -> [UInt8] {
        let environment = try Environment.open(path: scratch.path)
        try environment.update { transaction in
            let names = try transaction.makeTable("names")
            for number in 0..<90 {
                try transaction.put(names, key(number * 3) + [7], [UInt8](repeating: UInt8(number), count: 100))
            }
            let large = try transaction.makeTable("large")
            for number in 0..<8 { try transaction.put(large, key(number), [UInt8](repeating: 1, count: 3000 + number * 1500)) }
            _ = try transaction.makeTable("none")
        }
        for round in 0..<4 {
            try environment.update { transaction in
                try transaction.delete(transaction.makeTable("large"), key(round))
                try transaction.put(transaction.makeTable("names"), key(round * 30 + 1), [UInt8(round)])
            }
        }
        return try scratch.dataBytes()
    }

    /// The part of flips that may go unnoticed, and why. Of roles not listed every flip must be noticed.
    private static let tolerated: [PageMap.Role: Double] = [
        // Read by nothing.
        .pagePad: 1, .treePad: 1, .overflowPad: 1, .metaMap: 1, .otherMeta: 1,
        // The unused word of the main table's header.
        .metaMainTree: 0.1,
        // A flag that happens to make another well-formed entry.
        .leafFlags: 0.01,
        // Keys that keep their place among their neighbours, and values of another length: the business of the
        // checksum in each record, which covers both.
        .leafKey: 0.35, .leafKeySize: 0.01, .leafValueSize: 0.06, .branchKey: 0.12,
        // A transaction number that keeps its place.
        .freeKey: 0.03,
    ]

    @Test func everyStructuralBit() throws {
        let scratch = try Scratch()
        let bytes = try makeFile(scratch)
        #expect(try PageWalk.check(path: scratch.dataPath).problems == [])
        let map = PageMap(bytes)
        let flipper = try Flipper(scratch.dataPath)
        for role in PageMap.Role.allCases where role != .leafValue && role != .largeValue {
            let bits = (map.roles[role] ?? []).flatMap { $0 }.flatMap { byte in (0..<8).map { (byte: byte, bit: $0) } }
            try #require(!bits.isEmpty, "no bytes for \(role.rawValue)")
            // Every bit, or of the many entries of leaves every seventh.
            let step = bits.count > 1300 ? 7 : 1
            var (flips, unnoticed) = (0, 0)
            for index in stride(from: 0, to: bits.count, by: step) {
                flips += 1
                if try !flipper.isNoticed(bits[index].byte, bits[index].bit, bytes) { unnoticed += 1 }
            }
            print("\(role.rawValue): \(unnoticed) of \(flips) flips unnoticed")
            #expect(Double(unnoticed) <= Self.tolerated[role, default: 0] * Double(flips), "\(role.rawValue)")
        }
        #expect(try PageWalk.check(path: scratch.dataPath).problems == [])
    }

    /// What values hold is not looked at.
    @Test func bitsOfValuesAreNobodysBusiness() throws {
        let scratch = try Scratch()
        let bytes = try makeFile(scratch)
        let flipper = try Flipper(scratch.dataPath)
        let places = try #require(PageMap(bytes).roles[.leafValue]).flatMap { $0 }
        for index in stride(from: 0, to: places.count, by: 97) {
            #expect(try !flipper.isNoticed(places[index], index % 8, bytes), "byte \(places[index])")
        }
    }

    /// A dense sample of the bits of every page, whatever they are for: the walk ends, with or without problems.
    @Test func bitsOfWholePages() throws {
        let scratch = try Scratch()
        let bytes = try makeFile(scratch)
        let flipper = try Flipper(scratch.dataPath)
        var noticed = 0
        for bit in stride(from: 0, to: bytes.count * 8, by: 401) {
            if try flipper.isNoticed(bit / 8, bit % 8, bytes) { noticed += 1 }
        }
        #expect(noticed > 0)
        #expect(try PageWalk.check(path: scratch.dataPath).problems == [])
    }
}

/// Flips bits of a file and asks the walk about it.
final class Flipper {
    private let path: String
    private let descriptor: Int32

    init(_ path: String) throws {
        self.path = path
        descriptor = open(path, O_RDWR)
        guard descriptor >= 0 else { throw LMDBError.system("open") }
    }

    deinit { close(descriptor) }

    private func write(_ value: UInt8, at byte: Int) throws {
        var value = value
        guard pwrite(descriptor, &value, 1, off_t(byte)) == 1 else { throw LMDBError.system("pwrite") }
    }

    /// Whether the walk finds the file damaged with one bit of it flipped. The bit is put back.
    func isNoticed(_ byte: Int, _ bit: Int, _ bytes: [UInt8]) throws -> Bool {
        let original = bytes[byte]
        try write(original ^ 1 << UInt8(bit), at: byte)
        let noticed: Bool
        do throws(LMDBError) {
            noticed = try !PageWalk.check(path: path).problems.isEmpty
        } catch {
            noticed = error.isDamage
        }
        try write(original, at: byte)
        return noticed
    }
}
