import ArgumentParser
import LanguageModel

/// How far and how wide models are run.
struct ScoringLimits: ParsableArguments {
    @Option(help: ArgumentHelp("Read at most so many tokens of a sample, 4096 by default; the rest is cut at the right.", valueName: "tokens"))
    var maxLength: Int?
    @Option(help: ArgumentHelp("Threads, each with a batch of its own (default: one for each processor).", valueName: "n"))
    var threads: Int?

    init() {}

    init(maxLength: Int?, threads: Int?) {
        self.maxLength = maxLength
        self.threads = threads
    }

    var maximumLength: Int { maxLength ?? 4096 }
    var options: ScoringOptions { ScoringOptions(threads: threads) }

    func validate() throws {
        guard maxLength ?? 2 > 1 else { throw ValidationError("--max-length is at least 2") }
        guard threads ?? 1 > 0 else { throw ValidationError("--threads is at least 1") }
    }
}

/// What commands that run models take.
struct ScoringArguments: ParsableArguments {
    @Option(help: ArgumentHelp("The probe: its name, or a unique prefix of its id.", valueName: "name"), completion: .probe)
    var probe: String
    @OptionGroup var limits: ScoringLimits
}
