import Foundation
import TestSupport

@testable import LMDB

extension SeededGenerator {
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}

/// A directory for one environment, removed with the object.
struct Scratch {
    let directory: TemporaryDirectory
    var path: String { directory.path }
    var dataPath: String { directory.path + "/data.mdb" }

    init() throws { directory = try TemporaryDirectory() }

    func dataBytes() throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: dataPath))) }

    func writeData(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(filePath: dataPath)) }
}

extension Environment {
    /// One committed transaction.
    func update(_ body: (borrowing WriteTransaction) throws -> Void) throws {
        let transaction = try beginWrite()
        try body(transaction)
        try transaction.commit()
    }

    /// Every entry of a table, in order; nil when there is no such table.
    func entries(_ name: String) throws -> [(key: [UInt8], value: [UInt8])]? {
        let transaction = try beginRead()
        guard let table = try transaction.table(name) else { return nil }
        var entries: [(key: [UInt8], value: [UInt8])] = []
        try transaction.scan(table) { key, value in
            entries.append((key.array, value.array))
            return true
        }
        return entries
    }
}

extension RawSpan {
    var array: [UInt8] { withUnsafeBytes { Array($0) } }
}

/// A key that sorts like its number.
func key(_ number: Int) -> [UInt8] { withUnsafeBytes(of: UInt32(number).bigEndian) { Array($0) } }
