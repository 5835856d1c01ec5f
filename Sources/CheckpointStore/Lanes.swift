internal import BlockCodec
internal import CKernels
internal import Synchronization

/// Work spread over the processors: one lane each, with buffers of its own.
package final class Lanes<Lane> {
    private let lanes: [Lane]
    private let threads = LaneThreads()

    /// Makes a lane for each processor this process may run on.
    package init(_ make: () throws -> Lane) rethrows {
        lanes = try (0..<Int(ck_processor_count())).map { _ in try make() }
    }

    /// Calls `body` for every index below `count`, in any order, each lane one at a time. The first error stops
    /// the lanes and is thrown.
    package func forEach(_ count: Int, _ body: (Lane, Int) throws -> Void) throws {
        try run(atMost: count) { lane, next in
            while let index = next(count) { try body(lane, index) }
        }
    }

    /// Calls `body` once a lane, with a source of indices that all lanes share. Where there are no more threads to be had some lanes are
    /// left out, so nothing may be for one lane alone.
    ///
    /// - Parameter most: lanes that there is work for.
    func run(atMost most: Int = .max, _ body: (_ lane: Lane, _ next: (_ count: Int) -> Int?) throws -> Void) throws {
        let shared = SharedCounter()
        // Lanes are used by one thread at a time: index `i` only by iteration `i`.
        nonisolated(unsafe) let lanes = self.lanes
        threads.run(max(1, min(most, lanes.count))) { index in
            do {
                try body(lanes[index], shared.next)
            } catch {
                shared.fail(error)
            }
        }
        try shared.check()
    }
}

/// Hands out indices to lanes until one fails.
private final class SharedCounter: Sendable {
    private let counter = Atomic<Int>(0)
    private let stopped = Atomic<Bool>(false)
    private let failure = Locked<(any Error)?>(nil)

    func next(below count: Int) -> Int? {
        if stopped.load(ordering: .relaxed) { return nil }
        let next = counter.wrappingAdd(1, ordering: .relaxed).oldValue
        return next < count ? next : nil
    }

    func fail(_ error: any Error) {
        stopped.store(true, ordering: .relaxed)
        failure.withLock { if $0 == nil { $0 = error } }
    }

    func check() throws {
        if let error = failure.withLock({ $0 }) { throw error }
    }
}

/// A lane's means to code and decode blocks.
final class CodecLane {
    let coder: BlockCoder
    /// Room for one raw block each.
    let raw: UnsafeMutableRawBufferPointer
    let secondRaw: UnsafeMutableRawBufferPointer
    /// Room for copies of a base and of its own base.
    let copyBuffers: [UnsafeMutableRawBufferPointer]
    private var chainBuffers: [UnsafeMutableRawBufferPointer] = []

    init() throws {
        coder = try BlockCoder()
        raw = .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
        secondRaw = .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
        copyBuffers = (0..<2).map { _ in .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64) }
    }

    deinit {
        raw.deallocate()
        secondRaw.deallocate()
        for buffer in copyBuffers + chainBuffers { buffer.deallocate() }
    }

    /// Room for one block of a chain; made when it is first asked for.
    func chainBuffer(_ index: Int) -> UnsafeMutableRawBufferPointer {
        while chainBuffers.count <= index {
            chainBuffers.append(.allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64))
        }
        return chainBuffers[index]
    }
}
