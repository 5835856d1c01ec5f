#if os(Linux)
import Foundation
import Testing

@testable import LMDB

@Suite struct ForkTests {
    /// Exit codes of the child, one bit an answer.
    private enum Answer {
        static let refusedRead: Int32 = 1
        static let refusedWrite: Int32 = 2
        static let openedAnew: Int32 = 4
        static let readTheValue: Int32 = 8
        static let wroteAValue: Int32 = 16
        static let all: Int32 = 31
    }

    /// In a child of `fork` the parent's environment refuses, and a new open works.
    @Test func childrenOpenTheirOwn() throws {
        let scratch = try Scratch()
        let environment = try Environment.open(path: scratch.path)
        try environment.update { try $0.put($0.makeTable("t"), [1], [42]) }
        let reader = try environment.beginRead()
        let table = try #require(try reader.table("t"))

        // Swift hides fork; a child that only calls what is below and _exit is sound.
        let symbol = try #require(dlsym(UnsafeMutableRawPointer(bitPattern: 0), "fork"))
        let fork = unsafeBitCast(symbol, to: (@convention(c) () -> pid_t).self)
        let child = fork()
        if child == 0 {
            alarm(30)
            _exit(ForkTests.answers(environment, scratch.path))
        }
        try #require(child > 0)
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        #expect(status & 0x7F == 0, "the child was killed by signal \(status & 0x7F)")
        #expect(status >> 8 & 0xFF == Answer.all, "answers \(String(status >> 8 & 0xFF, radix: 2))")

        // The parent's reader and environment are none the worse.
        #expect(try reader.get(table, [1])?.array == [42])
        #expect(try environment.entries("t")?.map(\.key) == [[1], [2]])
        try environment.update { try $0.put($0.makeTable("t"), [3], [3]) }
        #expect(try environment.entries("t")?.count == 3)
    }

    private static func answers(_ environment: Environment, _ path: String) -> Int32 {
        var answers: Int32 = 0
        do { _ = try environment.beginRead() } catch {
            if error.code == EINVAL, error.description.contains("fork") { answers |= Answer.refusedRead }
        }
        do { _ = try environment.beginWrite() } catch {
            if error.code == EINVAL { answers |= Answer.refusedWrite }
        }
        guard let own = try? Environment.open(path: path) else { return answers }
        if own !== environment { answers |= Answer.openedAnew }
        if let entries = try? own.entries("t"), entries.first?.value == [42] { answers |= Answer.readTheValue }
        if (try? own.update { try $0.put($0.makeTable("t"), [2], [43]) }) != nil { answers |= Answer.wroteAValue }
        return answers
    }
}
#endif
