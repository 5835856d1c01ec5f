import ArgumentParser
import LanguageModel

/// How commands generate text.
struct GenerationArguments: ParsableArguments {
    @Option(help: ArgumentHelp("New tokens at most.", valueName: "tokens"))
    var maxNew = 256
    @Option(help: ArgumentHelp("What logits are divided by before a token is drawn; 0 takes the most likely.", valueName: "t"))
    var temperature: Double?
    @Option(name: .customLong("top-k"), help: ArgumentHelp("Draw only of the k most likely tokens.", valueName: "k"))
    var topK: Int?
    @Option(name: .customLong("top-p"), help: ArgumentHelp("Draw only of the most likely tokens that have this probability together.", valueName: "p"))
    var topP: Double?
    @Option(help: ArgumentHelp("Of the draws (default: 0).", valueName: "n"))
    var seed: UInt64?

    func validate() throws {
        guard maxNew > 0 else { throw ValidationError("--max-new is at least 1") }
        guard temperature.map({ $0 >= 0 && $0.isFinite }) ?? true else { throw ValidationError("--temperature is zero or more") }
        guard topK ?? 1 > 0 else { throw ValidationError("--top-k is at least 1") }
        guard topP.map({ $0 > 0 && $0 <= 1 }) ?? true else { throw ValidationError("--top-p is above 0 and up to 1") }
    }

    /// - Parameter temperature: where none is given.
    func options(ends: [Int32], threads: Int?, temperature fallback: Double = 0) -> GenerationOptions {
        var options = GenerationOptions()
        options.maximumTokens = maxNew
        options.temperature = temperature ?? fallback
        options.topK = topK
        options.topP = topP ?? 1
        options.seed = seed ?? 0
        options.ends = Set(ends)
        options.threads = threads
        return options
    }
}
