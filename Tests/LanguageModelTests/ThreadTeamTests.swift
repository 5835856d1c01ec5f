import Synchronization
import Testing

@testable import LanguageModel

@Suite struct ThreadTeamTests {
    /// More threads than processors, pieces so short that threads are late for them.
    @Test(arguments: [1, 2, 3, 5])
    func `each thread takes each piece once`(threads: Int) {
        let team = ThreadTeam(count: threads)
        let counts = (0..<threads).map { _ in Counter() }
        for piece in 1...3000 {
            team.run { counts[$0].value.add(1, ordering: .relaxed) }
            #expect(counts.allSatisfy { $0.value.load(ordering: .relaxed) == piece })
        }
    }

    @Test func `each part is taken once`() {
        let team = ThreadTeam(count: 3)
        let counts = (0..<100).map { _ in Counter() }
        for _ in 0..<50 { team.forEach(100) { part, _ in counts[part].value.add(1, ordering: .relaxed) } }
        #expect(counts.allSatisfy { $0.value.load(ordering: .relaxed) == 50 })
    }

    private final class Counter: Sendable {
        let value = Atomic<Int>(0)
    }
}
