import ArgumentParser
import LanguageModel

/// How tokens are drawn.
struct SamplingArguments: ParsableArguments {
    @Option(help: ArgumentHelp("Draw tokens, with logits divided by this (default: take the likeliest).", valueName: "t"))
    var temperature: Double?
    @Option(help: ArgumentHelp("Draw from the so many likeliest tokens.", valueName: "k"))
    var topK: Int?
    @Option(help: ArgumentHelp("Draw from the likeliest tokens that together have this probability.", valueName: "p"))
    var topP: Double?
    @Option(help: ArgumentHelp("What is drawn depends on it.", valueName: "n"))
    var seed: UInt64 = 0

    func validate() throws {
        if let temperature, !(temperature > 0 && temperature.isFinite) { throw ValidationError("--temperature is above zero") }
        if let topK, topK < 1 { throw ValidationError("--top-k is at least 1") }
        if let topP, !(topP > 0 && topP <= 1) { throw ValidationError("--top-p is above 0 and at most 1") }
        if temperature == nil, topK != nil || topP != nil { throw ValidationError("--top-k and --top-p need --temperature") }
    }

    func options(maximumNew: Int, ends: [Int32], threads: Int?) -> GenerationOptions {
        GenerationOptions(
            maximumNew: maximumNew, temperature: temperature ?? 0, topK: topK, topP: topP, seed: seed, ends: Set(ends), threads: threads)
    }
}
