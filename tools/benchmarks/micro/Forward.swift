import CKernels
import CheckpointStore
import Dispatch
import LanguageModel
import Synchronization
import TensorFormats

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A pre-tokenised probe: lines of {"id", "input_ids", "completion_start"}.
func samples(_ path: String) throws -> [ScoringSample] {
    let map = try MappedFile(path)
    return try withExtendedLifetime(map) {
        try map.bytes.split(separator: UInt8(ascii: "\n")).map { line in
            let json = try JSONValue.parse(Array(line), path: path)
            let tokens = json["input_ids"]!.array!.map { Int32($0.unsigned!) }
            return ScoringSample(tokens: tokens, supervised: [Int(json["completion_start"]!.unsigned!)..<tokens.count])
        }
    }
}

/// Seconds to score a probe, the model open: one JSON line.
func forward(_ path: String, _ probe: String, _ threads: Int, _ repeats: Int, _ batchTokens: Int?) throws {
    let samples = try samples(probe)
    let model = try LanguageModel(CheckpointContents(path: path), longest: samples.map(\.tokens.count).max()!)
    var options = ScoringOptions(threads: threads)
    if let batchTokens { options.batchTokens = batchTokens }
    var times: [Double] = []
    var outputs: [TokenOutputs] = []
    for _ in 0..<repeats { times.append(try microseconds { outputs = try model.score(samples, options) }) }
    let seconds = median(times) / 1e6
    let scored = outputs.reduce(0) { $0 + $1.entropy.count }
    // Averaged by sample, then over samples, as records are.
    let entropy = outputs.reduce(0) { sum, sample in
        sum + sample.entropy.reduce(0) { $0 + Double($1) } / Double(sample.entropy.count)
    }
    print(
        #"{"seconds": \#(seconds), "scored_tokens": \#(scored), "tokens_per_second": \#(Double(scored) / seconds), "#
            + #""mean_entropy": \#(entropy / Double(samples.count)), "stated_memory_bytes": \#(model.scoringMemory(options))}"#)
}

/// Milliseconds from `start`, of the clock that only goes forward, to the first batch's first product, by the way `ckpt
/// entropy` takes: the store opened, the probe read, the model opened.
func firstProduct(_ path: String, _ ref: String, _ probe: String, _ start: Double) throws {
    let store = try Store.open(path)
    let evaluation = try EntropyEvaluation(
        store, ref, ScoredProbe(store, probe, maximumLength: 4096), ScoringOptions())
    let model = try evaluation.openModel()
    let first = Mutex<Double?>(nil)
    do {
        // Asked before a batch: its tokens are looked up, and then it is products.
        try evaluation.run(
            model,
            isStopped: {
                first.withLock { if $0 == nil { $0 = secondsSinceBoot() } }
                return true
            }, progress: { _ in })
    } catch let error as LanguageModelError where error.code == .interrupted {}
    print(#"{"first_product_ms": \#((first.withLock { $0! } - start) * 1000)}"#)
}

private func secondsSinceBoot() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// GFLOP/s of products of one shape, all threads at once, each with matrices of its own: what forward passes can reach.
func product(_ threads: Int) {
    let (m, n, k) = (1024, 1024, 768)
    let (columns, inner) = (256, 384)
    let kernels = ck_active_product_kernels().pointee
    let time = Mutex(Double.infinity)
    let start = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: threads) { _ in
        let a = [Float](repeating: 0.5, count: m * k)
        let b = [Float](repeating: 0.25, count: n * k)
        var c = [Float](repeating: 0, count: m * n)
        var panel = [Float](repeating: 0, count: columns * inner)
        start.withLock { $0 += 1 }
        while start.withLock({ $0 }) < threads {}
        for _ in 0..<20 {
            let taken = microseconds {
                for column in stride(from: 0, to: n, by: columns) {
                    for first in stride(from: 0, to: k, by: inner) {
                        b.withUnsafeBytes {
                            kernels.pack_rows(
                                $0.baseAddress! + 4 * (column * k + first), 4 * k, nil, columns, inner, 0, &panel)
                        }
                        a.withUnsafeBufferPointer { a in
                            c.withUnsafeMutableBufferPointer { c in
                                kernels.multiply(
                                    a.baseAddress! + first, k, m, panel, kernels.strip * inner, columns, inner,
                                    c.baseAddress! + column, n, first > 0 ? 1 : 0)
                            }
                        }
                    }
                }
            }
            time.withLock { $0 = min($0, taken) }
        }
    }
    let gflops = 2 * Double(m * n * k) / (time.withLock { $0 } / 1e6) / 1e9
    print(#"{"gflops_per_thread": \#(gflops), "threads": \#(threads)}"#)
}
