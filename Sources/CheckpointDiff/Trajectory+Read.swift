internal import CKernels
public import CheckpointStore
internal import TensorFormats

extension Trajectory {
    /// Follows the weights of a run of `store`.
    ///
    /// Block by block, through all snapshots, each decoded from the one before where it is packed against it. Tensors of which all snapshots
    /// have the same are not read. Sums are in double precision and do not depend on the number of threads. Words that are not finite are
    /// counted, and count as not moved.
    ///
    /// - Parameters:
    ///   - snapshots: oldest first, two or more.
    ///   - isWanted: names of the tensors that are followed.
    ///   - progress: called with bytes compared and bytes to compare, of all snapshots together.
    /// - Throws: `StoreError`; `.interrupted`.
    /// - Complexity: O(bytes x snapshots); memory: some 8 MiB a processor, and 32 bytes a snapshot and tensor; five times
    ///   a tensor that has strides.
    public init(
        of run: String, snapshots: [Stop], in store: Store, only isWanted: (String) -> Bool = { _ in true }, monitor: Monitor = Monitor(),
        progress: (ByteProgress) -> Void = { _ in }
    ) throws(StoreError) {
        guard snapshots.count > 1 else {
            throw StoreError(
                .badInput, "\(run): a way has two snapshots at least, and this run has \(snapshots.count)",
                hint: "ckpt diff A B compares any two checkpoints")
        }
        var contents: [CheckpointContents] = []
        for stop in snapshots { contents.append(try store.contents(stop.ref).keeping { isWanted($0.name) }) }
        let (paths, leftOut) = Trajectory.paths(contents)
        stops = snapshots
        self.leftOut = leftOut
        tracks = paths.map { path in
            Track(
                name: path[0].name, tensors: 1, words: DType.elementCount(shape: path[0].shape) ?? 0,
                intervals: [Track.Interval](repeating: Track.Interval(), count: snapshots.count - 1))
        }
        do {
            try read(paths, contents, store, monitor, progress)
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.failed, "\(error)")
        }
    }

    /// The versions of each tensor, oldest first.
    private static func paths(_ contents: [CheckpointContents]) -> ([[TensorEntry]], leftOut: [String]) {
        let versions = contents.map { contents in
            Dictionary(contents.tensors.filter { $0.part == .weights }.map { (ExactName($0.name), $0) }, uniquingKeysWith: { first, _ in first })
        }
        var paths: [[TensorEntry]] = []
        var leftOut: [String] = []
        var seen: Set<ExactName> = []
        for tensor in contents.flatMap(\.tensors) where tensor.part == .weights && seen.insert(ExactName(tensor.name)).inserted {
            let path = versions.compactMap { $0[ExactName(tensor.name)] }
            if path.count == contents.count, VersionTrace.isPossible(tensor.dtype), path.allSatisfy({ $0.dtype == tensor.dtype && $0.shape == tensor.shape }) {
                paths.append(path)
            } else {
                leftOut.append(tensor.name)
            }
        }
        return (paths, leftOut)
    }

    private mutating func read(
        _ paths: [[TensorEntry]], _ contents: [CheckpointContents], _ store: Store, _ monitor: Monitor, _ progress: (ByteProgress) -> Void
    ) throws {
        // What stood still the whole way is known without a look.
        let moving = paths.indices.filter { index in
            paths[index].contains { $0.identity == nil || $0.identity != paths[index][0].identity }
        }
        let runs = BlockRun.runs(of: moving.map { paths[$0][0] })
        let total = runs.reduce(0) { $0 + $1.byteCount } * UInt64(contents.count)
        var done: UInt64 = 0
        let lanes = try Lanes {
            VersionTrace(try CheckpointContents.makeReader(of: contents, in: store, remembering: RecentBlocks()))
        }
        for part in BlockRun.batches(runs, roomFor: { _ in 0 }) {
            var results = [[ck_trace]](repeating: [], count: part.count)
            try results.withUnsafeMutableBufferPointer { results in
                // Each is written by one lane.
                nonisolated(unsafe) let results = results
                try lanes.forEach(part.count) { lane, index in
                    let run = part[part.startIndex + index]
                    if monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
                    results[index] = try lane.sums(paths[moving[run.tensor]], run.blocks)
                }
            }
            for (run, sums) in zip(part, results) {
                for (interval, sum) in sums.enumerated() {
                    tracks[moving[run.tensor]].intervals[interval].changed += sum.changed
                    tracks[moving[run.tensor]].intervals[interval].nonfinite += sum.nonfinite
                    tracks[moving[run.tensor]].intervals[interval].sumDelta += sum.sum_dd
                    tracks[moving[run.tensor]].intervals[interval].sumAlong += sum.sum_de
                    tracks[moving[run.tensor]].intervals[interval].sumFromFirst += sum.sum_ff
                }
                done += run.byteCount * UInt64(contents.count)
            }
            progress(ByteProgress(doneBytes: done, totalBytes: total))
        }
    }
}

/// Follows blocks through their versions. For one thread.
private final class VersionTrace {
    private let reader: TensorReader
    /// The first version, the two before, and the one at hand.
    private var versions: [UnsafeMutableRawBufferPointer]

    init(_ reader: TensorReader) {
        self.reader = reader
        versions = (0..<4).map { _ in .allocate(byteCount: Int(Grid.blockBytes), alignment: 64) }
    }

    deinit { for version in versions { version.deallocate() } }

    /// Tensors with strides are one range, of any size.
    private func makeRoom(_ byteCount: Int) {
        guard byteCount > versions[0].count else { return }
        for index in versions.indices {
            versions[index].deallocate()
            versions[index] = .allocate(byteCount: byteCount, alignment: 64)
        }
    }

    static func isPossible(_ dtype: DType) -> Bool { WordDifference.isPossible(dtype) }

    /// The sums from each version to the next.
    func sums(_ path: [TensorEntry], _ blocks: ArraySlice<Range<UInt64>>) throws -> [ck_trace] {
        var sums = [ck_trace](repeating: ck_trace(), count: path.count - 1)
        let words = VersionTrace.words(path[0].dtype)
        for range in blocks {
            makeRoom(range.count)
            var (last, before) = (0, 0)
            for (version, tensor) in path.enumerated() {
                let room = version == 0 ? 0 : 1 + (version - 1) % 3
                try reader.withBytes(of: tensor, range) { versions[room].copyMemory(from: $0) }
                if version > 0 {
                    let bytes = [0, before, last, room].map { UnsafeRawPointer(versions[$0].baseAddress!) }
                    words(bytes[0], bytes[1], bytes[2], bytes[3], range.count, &sums[version - 1])
                }
                (last, before) = (room, last)
            }
        }
        return sums
    }

    private typealias Function = (
        UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer, UnsafeRawPointer, _ bytes: Int, UnsafeMutablePointer<ck_trace>
    ) -> Void

    private static func words(_ dtype: DType) -> Function {
        let kernels = ck_active_movement_kernels().pointee
        func of(_ function: ck_trace_fn?, _ wordBytes: Int) -> Function {
            { first, before, last, now, bytes, sums in function!(first, before, last, now, bytes / wordBytes, sums) }
        }
        switch dtype {
        case .bf16: return of(kernels.trace_bf16, 2)
        case .f16: return of(kernels.trace_f16, 2)
        case .f32: return of(kernels.trace_f32, 4)
        case .f64: return of(kernels.trace_f64, 8)
        default:
            let table = ByteTable.of(dtype)!
            return { first, before, last, now, bytes, sums in ck_trace_bytes(first, before, last, now, bytes, table.values, sums) }
        }
    }
}
