internal import CKernels
internal import Dispatch
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Threads that take up one piece of work after the other, each a part of it.
///
/// A training step is some hundred pieces of a few microseconds to milliseconds. So a thread that has done its part watches for
/// the next piece for a while before it sleeps: waking one up takes longer than most pieces.
public final class ThreadTeam: Sendable {
    /// Threads, the caller's own with them.
    public let count: Int

    private let shared: Shared

    private final class Shared: @unchecked Sendable {
        /// Goes up by one with each piece of work.
        let turn = Atomic<Int>(0)
        /// Parts of the piece that are not done.
        let left = Atomic<Int>(0)
        let isEnding = Atomic<Bool>(false)
        let ended = DispatchSemaphore(value: 0)
        /// For each thread but the caller's: whether it sleeps, and what wakes it.
        let sleepers: [Sleeper]
        /// Set before `turn` goes up, read after.
        nonisolated(unsafe) var body: ((Int) -> Void)?

        init(_ count: Int) { sleepers = (0..<count).map { _ in Sleeper() } }
    }

    private final class Sleeper: Sendable {
        let sleeps = Atomic<Bool>(false)
        let signal = DispatchSemaphore(value: 0)
    }

    /// How often a thread looks for the next piece before it sleeps: some 50 microseconds.
    private static let patience = 2000

    /// Dispatch starts no more than some 250 threads in a process, and a piece of work would wait for the others for ever.
    public static let greatestCount = 128

    /// - Parameter count: threads, at least 1; no more than `greatestCount` are started.
    public init(count: Int) {
        precondition(count > 0)
        self.count = min(count, ThreadTeam.greatestCount)
        shared = Shared(self.count - 1)
        for index in shared.sleepers.indices { ThreadTeam.start(index, shared) }
    }

    deinit {
        shared.isEnding.store(true, ordering: .sequentiallyConsistent)
        shared.turn.add(1, ordering: .sequentiallyConsistent)
        for sleeper in shared.sleepers where sleeper.sleeps.exchange(false, ordering: .sequentiallyConsistent) {
            sleeper.signal.signal()
        }
        for _ in shared.sleepers { shared.ended.wait() }
    }

    private static func start(_ index: Int, _ shared: Shared) {
        let queue = DispatchQueue(label: "ckpt.team.\(index)")
        queue.async {
            var seen = 0
            while true {
                seen = nextTurn(shared, shared.sleepers[index], after: seen)
                if shared.isEnding.load(ordering: .sequentiallyConsistent) { break }
                shared.body!(index + 1)
                shared.left.subtract(1, ordering: .releasing)
            }
            shared.ended.signal()
        }
    }

    private static func nextTurn(_ shared: Shared, _ sleeper: Sleeper, after seen: Int) -> Int {
        while true {
            for _ in 0..<patience {
                let turn = shared.turn.load(ordering: .acquiring)
                if turn != seen { return turn }
                ck_pause()
            }
            sleeper.sleeps.store(true, ordering: .sequentiallyConsistent)
            let turn = shared.turn.load(ordering: .sequentiallyConsistent)
            // Whoever takes the flag back decides: the caller signals when it does. It may be late and mean the turn just done.
            if turn == seen || !sleeper.sleeps.exchange(false, ordering: .sequentiallyConsistent) { sleeper.signal.wait() }
        }
    }

    /// Calls `body` with 0 ..< count, each on a thread of its own, and returns when all are done. Not to be called by two
    /// threads at once, nor from within.
    public func run(_ body: (Int) -> Void) {
        guard count > 1 else { return body(0) }
        withoutActuallyEscaping(body) { body in
            // Used only until the last part is done, below.
            nonisolated(unsafe) let body = body
            shared.body = body
            shared.left.store(count - 1, ordering: .relaxed)
            shared.turn.add(1, ordering: .sequentiallyConsistent)
            for sleeper in shared.sleepers where sleeper.sleeps.exchange(false, ordering: .sequentiallyConsistent) {
                sleeper.signal.signal()
            }
            body(0)
            var looks = 0
            while shared.left.load(ordering: .acquiring) > 0 {
                ck_pause()
                looks += 1
                // Fewer processors than threads: let them run.
                if looks > ThreadTeam.patience { sched_yield() }
            }
            shared.body = nil
        }
    }

    /// Calls `body` with each part of 0 ..< parts, on whichever thread is free: what a part does must not depend on it.
    package func forEach(_ parts: Int, _ body: (_ part: Int, _ thread: Int) -> Void) {
        guard count > 1, parts > 1 else {
            for part in 0..<parts { body(part, 0) }
            return
        }
        let next = Atomic<Int>(0)
        run { thread in
            while true {
                let part = next.add(1, ordering: .relaxed).oldValue
                guard part < parts else { return }
                body(part, thread)
            }
        }
    }
}
