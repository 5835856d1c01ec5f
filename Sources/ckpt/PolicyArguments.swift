import ArgumentParser
import CheckpointStore

/// What is kept of a run, as the command line has it.
struct PolicyArguments: ParsableArguments {
    @Option(help: ArgumentHelp("Keep the newest N of each run.", valueName: "n"))
    var keepLast: Int?
    @Option(help: ArgumentHelp("Keep those whose step is a multiple.", valueName: "steps"))
    var keepEvery: UInt64?
    @Option(name: .customLong("keep-tag"), help: ArgumentHelp("Keep those with a tag like this; may be repeated. All tagged ones stay anyway without --include-tagged.", valueName: "pattern"), completion: .tag)
    var keepTags: [String] = []
    @Option(
        help: ArgumentHelp(
            "Keep the N best of each run by a metric (ckpt show lists them): max, or min for one whose name ends in \"loss\"; may be repeated.",
            valueName: "metric:n[:min|max]"))
    var keepBest: [BestArgument] = []
    @Option(help: ArgumentHelp("Keep the N of each run that can teach most together, by gap value.", valueName: "n"))
    var keepGap: Int?
    @Option(help: ArgumentHelp("Keep those that can teach most, as far as all blocks of the store fit: 500MB, 20GiB.", valueName: "size"))
    var budget: SizeArgument?
    @Option(help: ArgumentHelp("The probe that gap values are taken on; entropies are not computed here (ckpt entropy).", valueName: "name"), completion: .probe)
    var probe: String?
    @Option(help: ArgumentHelp("The strong snapshot of gap values (default: each run's head).", valueName: "ref"), completion: .snapshot)
    var strong: String?
    @Option(help: ArgumentHelp("Nats per token that a snapshot must be less sure by to teach anything (default: 0.02).", valueName: "nats"))
    var minGap: Double?
    @Flag(help: "In place of gap values: those that stand best for all others by distance of weights. A proxy.")
    var byDistance = false
    @Option(help: ArgumentHelp("Drop the optimizer's state of all but the last N of each run.", valueName: "n"))
    var optimizerKeep: Int?
    @Option(help: ArgumentHelp("Keep what was taken in within this time: 30m, 12h, 7d.", valueName: "age"))
    var minAge: AgeArgument?
    @Flag(help: "Let tagged snapshots go too, but for --keep-tag.")
    var includeTagged = false

    func policy() throws(StoreError) -> RetentionPolicy {
        var policy = RetentionPolicy()
        policy.keepLast = keepLast
        policy.keepEvery = keepEvery
        policy.keepTags = keepTags
        policy.keepBest = keepBest.map(\.best)
        policy.keepByWorth = keepGap
        policy.budget = budget?.bytes
        policy.strong = strong
        policy.optimizerKeep = optimizerKeep
        policy.leastAge = minAge?.seconds
        policy.includesTagged = includeTagged
        if byDistance, probe == nil { policy.worth = .distance }
        if let probe { policy.worth = .gap(probe: probe, leastGap: minGap ?? 0.02) }
        try policy.check()
        return policy
    }

    func validate() throws {
        guard !byDistance || probe == nil else { throw ValidationError("--probe or --by-distance, not both") }
    }

    /// Whether no rule was given at all.
    var isEmpty: Bool {
        keepLast == nil && keepEvery == nil && keepTags.isEmpty && keepBest.isEmpty && keepGap == nil && budget == nil && optimizerKeep == nil
            && minAge == nil && !includeTagged && probe == nil && !byDistance && strong == nil && minGap == nil
    }
}

/// `METRIC:N[:min|max]`
struct BestArgument: ExpressibleByArgument {
    let best: RetentionPolicy.Best

    init?(argument: String) {
        let parts = argument.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (2...3).contains(parts.count), !parts[0].isEmpty, let count = Int(parts[1]), count > 0 else { return nil }
        // As the Hugging Face trainer takes `metric_for_best_model`.
        let order = parts.count == 3 ? parts[2] : parts[0].hasSuffix("loss") ? "min" : "max"
        guard order == "min" || order == "max" else { return nil }
        best = RetentionPolicy.Best(metric: parts[0], count: count, isLowest: order == "min")
    }
}

/// `500MB`, `1.5 GiB`, `1000`: units of 1000 as of disks, and of 1024 with an `i`.
struct SizeArgument: ExpressibleByArgument {
    let bytes: UInt64

    init?(argument: String) {
        let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
        let unit = argument.dropFirst(number.count).drop { $0 == " " }.lowercased()
        let powers = ["k": 1, "m": 2, "g": 3, "t": 4, "p": 5]
        var factor = 1.0
        if let first = unit.first, let power = powers[String(first)] {
            let rest = unit.dropFirst()
            guard ["", "b", "i", "ib"].contains(rest) else { return nil }
            for _ in 0..<power { factor *= rest.hasPrefix("i") ? 1024 : 1000 }
        } else if !["", "b"].contains(unit) {
            return nil
        }
        guard let value = Double(number), value.isFinite, value * factor < 1e18 else { return nil }
        bytes = UInt64(value * factor)
    }
}

/// `90s`, `30m`, `12h`, `7d`, `2w`.
struct AgeArgument: ExpressibleByArgument {
    let seconds: UInt64

    init?(argument: String) {
        let units: [Character: UInt64] = ["s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400]
        guard let last = argument.last, let unit = units[last], let count = UInt64(argument.dropLast()), count < 1 << 40 else { return nil }
        seconds = count * unit
    }
}
