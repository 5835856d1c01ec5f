import CheckpointStore
import CkptABI
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A caller's progress callback. It is called on the thread that made the call and on no other, some times a second.
///
/// Sendable: the times and the callback are touched by that thread alone.
final class ProgressCall: @unchecked Sendable {
    /// Nanoseconds between two calls.
    private static let interval: UInt64 = 50_000_000

    private let callback: ckpt_progress?
    private let context: UnsafeMutableRawPointer?
    private let thread = pthread_self()
    private let isStopped = Atomic<Bool>(false)
    private var last: UInt64 = 0
    private var latest = (done: UInt64(0), total: UInt64(0))

    init(_ callback: ckpt_progress?, _ context: UnsafeMutableRawPointer?) {
        self.callback = callback
        self.context = context
    }

    func report(_ done: UInt64, _ total: UInt64) {
        guard let callback, pthread_equal(pthread_self(), thread) != 0 else { return }
        latest = (done, total)
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        let now = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        guard now >= last + ProgressCall.interval else { return }
        last = now
        if callback(context, done, total) != 0 { isStopped.store(true, ordering: .relaxed) }
    }

    var monitor: Monitor {
        Monitor(
            progress: { self.report($0.doneBytes, $0.totalBytes) },
            isCancelled: {
                if pthread_equal(pthread_self(), self.thread) != 0 { self.report(self.latest.done, self.latest.total) }
                return self.isStopped.load(ordering: .relaxed)
            })
    }
}
