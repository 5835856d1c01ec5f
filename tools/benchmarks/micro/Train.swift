import CheckpointStore
import LanguageModel
import Dispatch
import Synchronization
import WeakTraining

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Training steps on request: for each line read, one step over the next `batch` samples of the data, in order and then from the
/// beginning; prints its seconds, its loss and the peak of anonymous memory since the start, as a JSON line.
///
/// - Parameters:
///   - mode: "sft"; "joint": with a second copy of the model trained as the weak one; "frozen": the weak one left as it is.
///   - rates: one to a step, the last for all that follow.
func train(
    _ path: String, _ data: String, batch: Int, microBatchTokens: Int, threads: Int, mode: String, rates: [Double], checkpoints: Bool
) throws {
    let samples = try samples(data)
    let longest = samples.map(\.tokens.count).max()!
    let team = ThreadTeam(count: threads)
    let contents = try CheckpointContents(path: path)
    let model = try TrainedModel(contents, longest: longest)
    var options = GradientPass.Options()
    options.microBatchTokens = microBatchTokens
    options.checkpointsActivations = checkpoints
    var models = [model]
    var loss = LossSettings(share: 0.5, weakShare: 0.5)
    let weak: GradientPass.Weak
    switch mode {
    case "joint":
        models.append(try TrainedModel(contents, longest: longest))
        weak = .trained(models[1])
    case "frozen": weak = .frozen([try LanguageModel(contents, longest: longest)])
    default: (weak, loss) = (.none, LossSettings())
    }
    let pass = try GradientPass(model, weak, options, team)
    let optimizer = AdamW(models, AdamW.Settings(), team)
    let watch = MemoryWatch()
    var at = 0
    print("ready")
    fflush(nil)
    while readLine() != nil {
        let chosen = (0..<batch).map { GradientPass.Sample(samples[(at + $0) % samples.count]) }
        at += batch
        var figures = LossFigures()
        let time = try microseconds {
            figures = try pass.addGradients(chosen, loss)
            optimizer.take(rate: rates[min(optimizer.step, rates.count - 1)], norms: optimizer.gradientNorms())
        }
        print(
            #"{"seconds": \#(time / 1e6), "loss": \#(figures.loss / Double(figures.tokens)), "tokens": \#(chosen.reduce(0) { $0 + $1.sample.tokens.count }), "#
                + #""peak_anonymous_bytes": \#(watch.peak)}"#)
        fflush(nil)
    }
}

/// The lines of a file.
func lines(_ path: String) throws -> [String] {
    let map = try MappedFile(path)
    return withExtendedLifetime(map) {
        map.bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: Array($0), as: UTF8.self) }
    }
}

/// Looks at this process's anonymous memory every few milliseconds.
final class MemoryWatch: Sendable {
    private let greatest = Mutex(0)

    init() {
        DispatchQueue.global().async { [weak self] in
            while let self {
                let now = MemoryWatch.anonymous()
                self.greatest.withLock { $0 = max($0, now) }
                usleep(5000)
            }
        }
    }

    var peak: Int { greatest.withLock { $0 } }

    /// RssAnon of /proc/self/status, in bytes; 0 where there is none.
    static func anonymous() -> Int {
        guard let file = fopen("/proc/self/status", "r") else { return 0 }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        while fgets(&line, 256, file) != nil {
            let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix("RssAnon:") { return (Int(text.split(separator: " ").dropLast().last ?? "0") ?? 0) * 1024 }
        }
        return 0
    }
}
