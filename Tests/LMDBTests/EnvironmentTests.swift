import Foundation
import Synchronization
import Testing

@testable import LMDB

@Suite struct EnvironmentTests {
    @Test func aSecondOpenIsTheSameObject() throws {
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        #expect(try Environment.open(path: scratch.path) === environment)
        // By other names for the same file.
        #expect(try Environment.open(path: scratch.path + "/.") === environment)
        let link = try Scratch()
        try FileManager.default.createSymbolicLink(atPath: link.path + "/link", withDestinationPath: scratch.path)
        #expect(try Environment.open(path: link.path + "/link") === environment)
        // Another file is another environment, a copy too.
        let copy = try Scratch()
        try copy.writeData(scratch.dataBytes())
        #expect(try Environment.open(path: copy.path) !== environment)
    }

    @Test func openTwiceFromManyThreads() async throws {
        let scratch = try Scratch()
        let path = scratch.path
        let identifiers = try await withThrowingTaskGroup(of: Environment.self) { group in
            for _ in 0..<32 { group.addTask { try Environment.open(path: path) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(identifiers.map { ObjectIdentifier($0) }).count == 1)
    }

    @Test func closesWithItsLastReference() throws {
        let scratch = try Scratch()
        var environment: Environment? = try Environment.open(path: scratch.path)
        try environment!.update { try $0.put($0.makeTable("t"), [1], [2]) }
        weak let gone = environment
        #if os(Linux)
        #expect(openDescriptors(of: scratch.path + "/lock.mdb") == 1)
        #endif
        // A transaction keeps its environment open.
        do {
            let transaction = try environment!.beginRead()
            environment = nil
            #expect(gone != nil)
            let table = try #require(try transaction.table("t"))
            #expect(try transaction.get(table, [1])?.array == [2])
        }
        #expect(gone == nil)
        #expect(openDescriptors(of: scratch.path + "/lock.mdb") == 0)
        #expect(try Environment.open(path: scratch.path).entries("t")?.first?.value == [2])
    }

    /// While one thread closes its last reference, another opens: never are two handles of one file open at once,
    /// since LMDB drops the locks and reader slots of both with either.
    @Test func closingAndOpeningDoNotOverlap() throws {
        let scratch = try Scratch()
        let path = scratch.path
        _ = try Environment.open(path: path)
        let most = Mutex(0)
        let group = DispatchGroup()
        for _ in 0..<4 {
            group.enter()
            Thread.detachNewThread {
                for _ in 0..<300 {
                    guard let environment = try? Environment.open(path: path) else { continue }
                    // One handle holds one descriptor of its lock file.
                    let count = openDescriptors(of: path + "/lock.mdb")
                    most.withLock { $0 = max($0, count) }
                    withExtendedLifetime(environment) {}
                }
                group.leave()
            }
        }
        group.wait()
        #if os(Linux)
        #expect(most.withLock { $0 } == 1)
        #endif
    }

    @Test func unfitFileSystemsAreNamed() throws {
        let scratch = try Scratch()
        #expect(FileSystemCheck.unfitFileSystem(at: scratch.path) == nil)
        #expect(FileSystemCheck.unfitFileSystem(at: scratch.path + "/nowhere") == nil)
    }

    @Test func trimTailCutsBehindTheLastPage() throws {
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<50 { try transaction.put(table, key(number), [UInt8](repeating: 1, count: 3000)) }
        }
        let size = try scratch.dataBytes().count
        #expect(environment.usedBytes == UInt64(size))
        let handle = try FileHandle(forWritingTo: URL(filePath: scratch.dataPath))
        try handle.truncate(atOffset: UInt64(size + 100_000))
        try environment.trimTail()
        #expect(try scratch.dataBytes().count == size)
        #expect(try environment.entries("t")?.count == 50)
        try environment.sync()
        #expect(try environment.clearDeadReaders() == 0)
    }

    /// The copy holds the last commit, and is made while the same thread keeps all writers out.
    @Test func compactedCopyUnderAWriteTransaction() throws {
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<100 { try transaction.put(table, key(number), [UInt8](repeating: 1, count: 9000)) }
        }
        try environment.update { transaction in
            let table = try transaction.makeTable("t")
            for number in 0..<90 { try transaction.delete(table, key(number)) }
        }
        let copy = try Scratch()
        let transaction = try environment.beginWrite()
        try transaction.put(transaction.makeTable("t"), key(200), [1])
        try copy.writeData([])
        let handle = try FileHandle(forWritingTo: URL(filePath: copy.dataPath))
        try environment.copyCompacted(to: handle.fileDescriptor)
        transaction.abort()
        try handle.close()
        #expect(try PageWalk.check(path: copy.dataPath).problems == [])
        #expect(try copy.dataBytes().count * 4 < scratch.dataBytes().count)
        let copied = try Environment.open(path: copy.path).entries("t")
        let entries = try environment.entries("t")
        #expect(copied?.map(\.key) == entries?.map(\.key) && copied?.map(\.value) == entries?.map(\.value))
    }

    @Test func openIsSeenInThisProcess() throws {
        let scratch = try Scratch()
        #expect(!Environment.isOpen(path: scratch.path))
        do {
            let environment = try Environment.open(path: scratch.path)
            #expect(Environment.isOpen(path: scratch.path))
            withExtendedLifetime(environment) {}
        }
        // Closed, its lock file is still there.
        #expect(!Environment.isOpen(path: scratch.path))
    }

    /// What is written is there for another process, as far as one process can tell: after a close and a new open.
    @Test func everythingIsThereAfterReopening() throws {
        let scratch = try Scratch()
        for round in 0..<5 {
            let environment = try Environment.open(path: scratch.path)
            try environment.update { try $0.put($0.makeTable("t"), key(round), key(round * 100)) }
            #expect(try environment.entries("t")?.map(\.value) == (0...round).map { key($0 * 100) })
        }
    }
}

/// Descriptors of this process open on `path`.
func openDescriptors(of path: String) -> Int {
    #if os(Linux)
    var wanted = stat()
    guard stat(path, &wanted) == 0 else { return 0 }
    var count = 0
    for descriptor in Int32(0)..<1024 {
        var status = stat()
        if fstat(descriptor, &status) == 0, status.st_dev == wanted.st_dev, status.st_ino == wanted.st_ino { count += 1 }
    }
    return count
    #else
    return 0
    #endif
}
