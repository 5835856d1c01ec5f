internal import CKernels
internal import Dispatch

/// A thread of this process, for as long as `body` runs.
///
/// Here and in `LaneThreads` Dispatch would do, but for `fork`: in a child of a process that has used it there are neither the threads
/// of its pool nor new ones, and what is given to it is never done. Programs of machine learning fork to load their data. Its semaphores
/// need no pool.
final class OwnThread {
    private final class Body {
        let run: () -> Void
        init(_ run: @escaping () -> Void) { self.run = run }
    }

    private let thread: OpaquePointer

    /// Nil when there can be no more threads; then `body` is not called.
    init?(_ body: @escaping () -> Void) {
        let kept = Unmanaged.passRetained(Body(body))
        let thread = ck_thread_start({ context in Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run() }, kept.toOpaque())
        guard let thread else {
            kept.release()
            return nil
        }
        self.thread = thread
    }

    /// Waits for its end. Once, before the object goes.
    func join() { ck_thread_join(thread) }
}

/// Threads that do one piece of work after the other, each a part of it; started when they are first needed.
final class LaneThreads {
    /// Sendable: `body` is set before `go` is signalled, and read after.
    private final class Worker: @unchecked Sendable {
        let go = DispatchSemaphore(value: 0)
        let done = DispatchSemaphore(value: 0)
        /// Nil: the thread is to end.
        var body: (() -> Void)?

        func work() {
            while true {
                go.wait()
                guard doPart() else { return }
                done.signal()
            }
        }

        /// Has let go of `body` when it returns: the caller's closure does not outlive the call.
        private func doPart() -> Bool {
            guard let body else { return false }
            self.body = nil
            body()
            return true
        }
    }

    private var workers: [(worker: Worker, thread: OwnThread)] = []

    deinit {
        for (worker, _) in workers {
            worker.body = nil
            worker.go.signal()
        }
        for (_, thread) in workers { thread.join() }
    }

    /// Calls `body` with 0 ..< count, each on a thread of its own, the caller's the first, and returns when all are done; with fewer when
    /// there can be no more threads. Not to be called by two threads at once, nor from within.
    func run(_ count: Int, _ body: (Int) -> Void) {
        while workers.count < count - 1 {
            let worker = Worker()
            guard let thread = OwnThread(worker.work) else { break }
            workers.append((worker, thread))
        }
        withoutActuallyEscaping(body) { body in
            let busy = workers.prefix(count - 1)
            for (index, (worker, _)) in busy.enumerated() {
                worker.body = { body(index + 1) }
                worker.go.signal()
            }
            body(0)
            for (worker, _) in busy { worker.done.wait() }
        }
    }
}
