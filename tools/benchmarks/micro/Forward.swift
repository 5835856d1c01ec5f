import CheckpointStore
import LanguageModel
import TensorFormats

/// A pre-tokenised probe: lines of {"id", "input_ids", "completion_start"}.
func samples(_ path: String) throws -> [ScoringSample] {
    let map = try MappedFile(path)
    return try map.bytes.split(separator: UInt8(ascii: "\n")).map { line in
        let json = try JSONValue.parse(Array(line), path: path)
        let tokens = json["input_ids"]!.array!.map { Int32($0.unsigned!) }
        return ScoringSample(tokens: tokens, supervised: [Int(json["completion_start"]!.unsigned!)..<tokens.count])
    }
}

/// Seconds to score a probe, the model open: one JSON line.
func forward(_ path: String, _ probe: String, _ threads: Int, _ repeats: Int, _ batchTokens: Int?) throws {
    let samples = try samples(probe)
    let model = try LanguageModel(CheckpointContents(path: path), longest: samples.map(\.tokens.count).max()!)
    var options = ScoringOptions(threads: threads)
    if let batchTokens { options.batchTokens = batchTokens }
    var times: [Double] = []
    var entropy = 0.0
    var scored = 0
    for _ in 0..<repeats {
        entropy = 0
        scored = 0
        times.append(
            try microseconds {
                for outputs in try model.score(samples, options) {
                    scored += outputs.entropy.count
                    entropy += outputs.entropy.reduce(0) { $0 + Double($1) }
                }
            })
    }
    let seconds = median(times) / 1e6
    print(
        #"{"seconds": \#(seconds), "scored_tokens": \#(scored), "tokens_per_second": \#(Double(scored) / seconds), "#
            + #""mean_entropy": \#(entropy / Double(scored)), "stated_memory_bytes": \#(model.scoringMemory(options))}"#)
}
