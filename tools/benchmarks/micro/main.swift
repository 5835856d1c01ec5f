// Measures what a command line cannot show: views and the bandwidth of a diff, with the store open.
//
//   ckpt-bench views STORE REF        one JSON line: microseconds a view, first and median
//   ckpt-bench diff STORE A B         GB/s of a diff, basic and in full, and of only reading the same two streams; seconds of each
//   ckpt-bench spectrum STORE A B K   seconds to find K singular values of each matrix
//
//   ckpt-bench row STORE REF TENSOR ROW    seconds from the open store to one row of a tensor
//   ckpt-bench codec A B [PREVIOUS]   ratio and GB/s a core of B's blocks packed against A's, and of unpacking them
//   ckpt-bench forward MODEL PROBE THREADS REPEATS [BATCH_TOKENS]   scored tokens per second of a forward pass
//   ckpt-bench first STORE REF PROBE START    milliseconds from START (CLOCK_MONOTONIC) to the first product
//   ckpt-bench train MODEL DATA BATCH MICRO_BATCH_TOKENS THREADS sft|joint|frozen RATES [checkpoints]
//                                     a training step for each line read; RATES is one, or a file with one a line
//   ckpt-bench product THREADS        GFLOP/s a thread of dense products, all threads at once
//
// Times are medians over repetitions in one process; GB are 10^9 bytes of both checkpoints together.

import BlockCodec
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
    var diffs: [DiffDetail: [Double]] = [:]
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
        for detail in [DiffDetail.basic, .full] {
            diffs[detail, default: []].append(
                try microseconds {
                    let delta = try CheckpointDiff.compare(a, b, detail: detail)
                    precondition(!delta.compared.isEmpty)
                })
        }
    }
    let read = median(reads), basic = median(diffs[.basic]!), full = median(diffs[.full]!)
    print(
        """
        {"threads": \(threads), "read_gb_s": \(bytes / read / 1e3), "diff_gb_s": \(bytes / basic / 1e3), "full_gb_s": \(bytes / full / 1e3), \
        "share": \(read / basic), "full_share": \(read / full), "diff_seconds": \(basic / 1e6), "full_seconds": \(full / 1e6)}
        """)
}

/// The leading singular values of every matrix that differs.
func spectrum(_ path: String, _ first: String, _ second: String, _ count: Int) throws {
    let store = try Store.open(path)
    let (a, b) = (try store.contents(first), try store.contents(second))
    let seconds = try (0..<3).map { _ in
        try microseconds {
            var delta = try CheckpointDiff.compare(a, b)
            try delta.addSpectra(a, b, count: count)
            precondition(delta.compared.contains { $0.spectrum != nil })
        } / 1e6
    }
    print(#"{"seconds": \#(median(seconds))}"#)
}

/// One row of a tensor, decoded from its block.
func row(_ path: String, _ ref: String, _ name: String, _ row: UInt64) throws {
    let store = try Store.open(path)
    var loaded: CheckpointContents?
    let loading = try microseconds { loaded = try store.contents(ref) }
    guard let contents = loaded, let tensor = contents.tensors.first(where: { $0.name == name }), let rows = tensor.shape.first,
        row < rows
    else { fatalError("no row \(row) of \(name)") }
    let bytes = tensor.byteCount / rows
    var sum: UInt64 = 0
    let reading = try (0..<2).map { _ in
        try microseconds { sum = try contents.makeReader().withBytes(of: tensor, row * bytes..<(row + 1) * bytes, readAll) }
    }
    print(
        #"{"seconds": \#((loading + reading[0]) / 1e6), "load_seconds": \#(loading / 1e6), "#
            + #""again_seconds": \#(reading[1] / 1e6), "sum": \#(sum)}"#)
}

/// Packs every block of B's tensors against A's, in memory, on one thread.
func codec(_ a: String, _ b: String, _ previous: String?) throws {
    let contents = try [b, a, previous].compactMap { $0 }.map { try CheckpointContents(path: $0) }
    let coder = try BlockCoder()
    let readers = try contents.map { try $0.makeReader() }
    let target = UnsafeMutableRawBufferPointer.allocate(byteCount: BlockCoder.maximumPackedBytes, alignment: 64)
    let raw = UnsafeMutableRawBufferPointer.allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
    defer {
        target.deallocate()
        raw.deallocate()
    }
    var packing: [Double] = [], unpacking: [Double] = []
    var rawBytes = 0, packedBytes = 0
    for _ in 0..<7 {
        var (pack, unpack) = (0.0, 0.0)
        (rawBytes, packedBytes) = (0, 0)
        for tensor in contents[0].tensors {
            let others = contents.dropFirst().map { other in
                guard let found = other.tensors.first(where: { $0.name == tensor.name && $0.shape == tensor.shape }) else {
                    fatalError("\(tensor.name) is not in both")
                }
                return found
            }
            for range in tensor.blockRanges {
                // Copied, so that all is in memory as it is in an ingest.
                let bytes = try zip(readers, [tensor] + others).map { reader, tensor in
                    try reader.withBytes(of: tensor, range) { Array($0) }
                }
                try bytes[0].withUnsafeBytes { block in
                    try bytes[1].withUnsafeBytes { base in
                        try (bytes.count > 2 ? bytes[2] : []).withUnsafeBytes { before in
                            var bases = [BaseBlock(id: [UInt8](repeating: 1, count: 32), bytes: base, depth: 1)]
                            if bytes.count > 2 { bases.append(BaseBlock(id: [UInt8](repeating: 2, count: 32), bytes: before, depth: 0)) }
                            var count = 0
                            pack += try microseconds {
                                count = try coder.pack(block, element: tensor.dtype, packing: .delta, bases: bases, into: target)
                            }
                            let into = UnsafeMutableRawBufferPointer(rebasing: raw[..<block.count])
                            unpack += try microseconds {
                                try coder.unpack(UnsafeRawBufferPointer(rebasing: target[..<count]), bases: bases.map(\.bytes), into: into)
                            }
                            rawBytes += block.count
                            packedBytes += count
                        }
                    }
                }
            }
        }
        packing.append(pack)
        unpacking.append(unpack)
    }
    let (pack, unpack) = (median(packing), median(unpacking))
    let gigabytes = Double(rawBytes) / 1e3
    print(
        #"{"ratio": \#(Double(packedBytes) / Double(rawBytes)), "encode_gb_s": \#(gigabytes / (pack - unpack)), "#
            + #""encode_and_compare_gb_s": \#(gigabytes / pack), "decode_gb_s": \#(gigabytes / unpack)}"#)
}

let arguments = CommandLine.arguments
switch (arguments.dropFirst().first, arguments.count) {
case ("views", 4): try views(arguments[2], arguments[3])
case ("diff", 5): try diff(arguments[2], arguments[3], arguments[4])
case ("spectrum", 6): try spectrum(arguments[2], arguments[3], arguments[4], Int(arguments[5]) ?? 16)
case ("row", 6): try row(arguments[2], arguments[3], arguments[4], UInt64(arguments[5])!)
case ("codec", 4), ("codec", 5): try codec(arguments[2], arguments[3], arguments.count > 4 ? arguments[4] : nil)
case ("forward", 6), ("forward", 7):
    try forward(
        arguments[2], arguments[3], Int(arguments[4])!, Int(arguments[5])!, arguments.count > 6 ? Int(arguments[6]) : nil)
case ("first", 6): try firstProduct(arguments[2], arguments[3], arguments[4], Double(arguments[5])!)
case ("product", 3): product(Int(arguments[2])!)
case ("train", 9), ("train", 10):
    let rates = try Double(arguments[8]).map { [$0] } ?? lines(arguments[8]).map { Double($0)! }
    try train(
        arguments[2], arguments[3], batch: Int(arguments[4])!, microBatchTokens: Int(arguments[5])!, threads: Int(arguments[6])!,
        mode: arguments[7], rates: rates, checkpoints: arguments.count > 9)
default:
    fatalError(
        "usage: ckpt-bench views STORE REF | diff STORE A B | spectrum STORE A B K | row STORE REF TENSOR ROW | codec A B [PREVIOUS] "
            + "| forward MODEL PROBE THREADS REPEATS [BATCH_TOKENS] | first STORE REF PROBE START | train MODEL DATA BATCH MICRO_BATCH_TOKENS THREADS MODE RATES [checkpoints] | product THREADS")
}
