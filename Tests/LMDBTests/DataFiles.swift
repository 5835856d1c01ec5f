import Foundation

@testable import LMDB
import TestSupport

/// The shapes a data file can have, each made by ordinary transactions.
enum FileShape: String, CaseIterable {
    case noTransaction, emptyTable, oneEntry, manySmall, longKeys, large, mixed, deleted, emptied, manyTables, longFreeList,
        rewritten, reserved

    func fill(_ environment: Environment) throws {
        var generator = SeededGenerator(seed: 42)
        switch self {
        case .noTransaction: break
        case .emptyTable: try environment.update { _ = try $0.makeTable("t") }
        case .oneEntry: try environment.update { try $0.put($0.makeTable("t"), [1], [2]) }
        case .manySmall:
            // Three levels deep.
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<9000 { try transaction.put(table, key(number * 7919 % 9000) + [1, 2, 3], [UInt8](repeating: 8, count: 90)) }
            }
        case .longKeys:
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<300 {
                    try transaction.put(table, generator.bytes(400) + key(number), generator.bytes(number % 50))
                }
            }
        case .large:
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for count in [2038, 2039, 2040, 4079, 4080, 4081, 40_000, 300_000] {
                    try transaction.put(table, key(count), [UInt8](repeating: 3, count: count))
                }
            }
        case .mixed, .deleted, .rewritten:
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<400 {
                    try transaction.put(table, key(number), [UInt8](repeating: 1, count: number % 40 == 0 ? 20_000 : number))
                }
            }
            guard self != .mixed else { return }
            for round in 0..<12 {
                try environment.update { transaction in
                    let table = try transaction.makeTable("t")
                    for number in 0..<400 where generator.below(4) == 0 {
                        if self == .deleted {
                            try transaction.delete(table, key(number))
                        } else {
                            try transaction.put(table, key(number), [UInt8](repeating: UInt8(round), count: generator.below(6000)))
                        }
                    }
                }
            }
        case .emptied:
            try FileShape.mixed.fill(environment)
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<400 { try transaction.delete(table, key(number)) }
            }
        case .manyTables:
            try environment.update { transaction in
                for name in 0..<20 {
                    let table = try transaction.makeTable("table \(name)")
                    for number in 0..<(name * 10) { try transaction.put(table, key(number), generator.bytes(100)) }
                }
            }
        case .longFreeList:
            // Over 500 freed pages in one transaction: their list needs a value of its own pages.
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<300 { try transaction.put(table, key(number), count: 20_000) { $0.initializeMemory(as: UInt8.self, repeating: 5) } }
            }
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<290 { try transaction.delete(table, key(number)) }
            }
            for number in 0..<3 { try environment.update { try $0.put($0.makeTable("t"), [UInt8(number)], [1]) } }
        case .reserved:
            try environment.update { transaction in
                let table = try transaction.makeTable("t")
                for number in 0..<50 {
                    try transaction.put(table, key(number), count: number * 200) { $0.initializeMemory(as: UInt8.self, repeating: 7) }
                }
            }
        }
    }

    /// The file's bytes, with the environment closed.
    func bytes(_ scratch: Scratch) throws -> [UInt8] {
        try fill(Environment.open(path: scratch.path))
        return try scratch.dataBytes()
    }
}
