// Measures what a command line cannot show: views and the bandwidth of a diff, with the store open.
//
//   ckpt-bench views STORE REF        one JSON line: microseconds a view, first and median
//   ckpt-bench diff STORE A B         GB/s of a diff, and of only reading the same two streams
//
// Times are medians over repetitions in one process; GB are 10^9 bytes of both checkpoints together.

import CKernels
import CheckpointDiff
import CheckpointStore
import Dispatch

func microseconds(_ body: () throws -> Void) rethrows -> Double {
    let time = try ContinuousClock().measure(body).components
    return Double(time.seconds) * 1e6 + Double(time.attoseconds) / 1e12
}

func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

/// The first and the median time of `Store.view` over all tensors of a snapshot.
func views(_ path: String, _ ref: String) throws {
    let store = try Store.open(path)
    let snapshot = try store.snapshot(ref)
    let names = snapshot.tensors.filter { $0.part == .weights }.map(\.name)
    var times: [Double] = []
    for round in 0..<max(3, 3000 / names.count) {
        for name in names.shuffled() {
            let time = try microseconds {
                let view = try store.view(of: name, in: snapshot)
                try view.withRowBlock(0) { bytes in precondition(bytes.count > 0) }
            }
            if round > 0 || times.isEmpty { times.append(time) }
        }
    }
    let (first, typical) = (times[0], median(times))
    print(#"{"tensors": \#(names.count), "bytes": \#(snapshot.byteCount), "first_us": \#(first), "median_us": \#(typical)}"#)
}

/// Adds up all words of a run of bytes: as fast as memory can be read.
func readAll(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
    var sums = SIMD8<UInt64>.zero
    var offset = 0
    while offset + 64 <= bytes.count {
        sums &+= bytes.loadUnaligned(fromByteOffset: offset, as: SIMD8<UInt64>.self)
        offset += 64
    }
    return sums.wrappedSum()
}

func diff(_ path: String, _ first: String, _ second: String) throws {
    let store = try Store.open(path)
    let a = try store.contents(first)
    let b = try store.contents(second)
    let bytes = Double((a.tensors + b.tensors).reduce(0) { $0 + $1.byteCount })
    let threads = Int(ck_processor_count())
    let readers = try (0..<threads).map { _ in (try a.makeReader(), try b.makeReader()) }
    nonisolated(unsafe) let shared = readers
    let pieces = zip(a.tensors, b.tensors).flatMap { pair in pair.0.blockRanges.map { (pair.0, pair.1, $0) } }

    var reads: [Double] = []
    var diffs: [Double] = []
    for _ in 0..<7 {
        reads.append(
            microseconds {
                DispatchQueue.concurrentPerform(iterations: threads) { thread in
                    for index in stride(from: thread, to: pieces.count, by: threads) {
                        let (left, right, range) = pieces[index]
                        let one = try! shared[thread].0.withBytes(of: left, range, readAll)
                        let two = try! shared[thread].1.withBytes(of: right, range, readAll)
                        if one &+ two == 0x5EED { print("") }
                    }
                }
            })
        diffs.append(
            try microseconds {
                let delta = try CheckpointDiff.compare(a, b)
                precondition(!delta.compared.isEmpty)
            })
    }
    let read = bytes / median(reads) / 1e3
    let compared = bytes / median(diffs) / 1e3
    print(#"{"threads": \#(threads), "read_gb_s": \#(read), "diff_gb_s": \#(compared), "share": \#(compared / read)}"#)
}

let arguments = CommandLine.arguments
switch (arguments.dropFirst().first, arguments.count) {
case ("views", 4): try views(arguments[2], arguments[3])
case ("diff", 5): try diff(arguments[2], arguments[3], arguments[4])
default: fatalError("usage: ckpt-bench views STORE REF | ckpt-bench diff STORE A B")
}
