internal import TensorFormats

extension TrainingPlan {
    /// One JSON object on one line: every choice of the recipe spelled out, so that it means the same when a preset has changed.
    public var json: String { value.text }

    var value: JSONValue { .object(members) }

    private var members: [JSONValue.Member] {
        var members: [JSONValue.Member] = []
        func put(_ key: String, _ value: JSONValue?) {
            if let value { members.append(.init(key: key, value: value)) }
        }
        put("preset", .string(recipe.preset.rawValue))
        put("mix", .string(recipe.mix.rawValue))
        put("weak_branch", recipe.weakBranch.map { .string($0.rawValue) })
        put("select", .string(recipe.curriculum.selection.text))
        if recipe.curriculum.selection.hasCoefficients {
            let coefficients = recipe.curriculum.coefficients
            put("coefficients", .array([coefficients.a, coefficients.b, coefficients.c].map { .double($0) }))
        }
        put("multiplier", .double(recipe.multiplier))
        put("lambda", recipe.lambda.map { .double($0) })
        put("label_smoothing", .double(recipe.labelSmoothing))
        put("rate_factor", .double(recipe.rateFactor))
        put("step_factor", .unsigned(UInt64(recipe.stepFactor)))
        put("seed", .unsigned(seed))
        put("rounds", .unsigned(UInt64(rounds)))
        switch length {
        case .passes(let passes): put("passes", .unsigned(UInt64(passes)))
        case .steps(let steps): put("steps", .unsigned(UInt64(steps)))
        }
        put("batch_size", .unsigned(UInt64(batchSize)))
        put("max_length", .unsigned(UInt64(maximumLength)))
        put("learning_rate", .double(learningRate.peak))
        switch learningRate.warmUp {
        case .share(let share): put("warm_up_share", .double(share))
        case .steps(let steps): put("warm_up_steps", .unsigned(UInt64(steps)))
        }
        put("decay", .string(learningRate.decay.rawValue))
        put("clip", .double(clip))
        put("weight_decay", .double(weightDecay))
        return members
    }

    /// What `json` wrote.
    ///
    /// - Parameters:
    ///   - bytes: UTF-8.
    ///   - path: the file, as errors name it.
    /// - Throws: `.malformed` for what is no JSON, for a key that is unknown, missing or there twice, and for values that
    ///   the initialisers refuse.
    public init(json bytes: [UInt8], path: String) throws(WeakTrainingError) {
        let reader = try PlanReader(bytes, path: path)
        do throws(WeakTrainingError) {
            var choices = RecipeChoices()
            choices.mix = try reader.choice("mix")
            choices.weakBranch = try reader.choice("weak_branch")
            if let select = try reader.text("select") { choices.selection = try Selection(select) }
            choices.coefficients = try reader.coefficients("coefficients")
            choices.multiplier = try reader.number("multiplier")
            choices.lambda = try reader.number("lambda")
            choices.labelSmoothing = try reader.number("label_smoothing")
            choices.rateFactor = try reader.number("rate_factor")
            choices.stepFactor = try reader.count("step_factor")
            let share = try reader.number("warm_up_share")
            let warmUp: LearningRate.WarmUp =
                if let share { .share(share) } else { .steps(try reader.needed("warm_up_steps", reader.count)) }
            let passes = try reader.count("passes")
            let length: Length = if let passes { .passes(passes) } else { .steps(try reader.needed("steps", reader.count)) }
            try self.init(
                Recipe(try reader.needed("preset", reader.choice), choices),
                learningRate: LearningRate(
                    peak: try reader.needed("learning_rate", reader.number), warmUp: warmUp,
                    decay: try reader.needed("decay", reader.choice)),
                seed: try reader.needed("seed", reader.unsigned),
                rounds: try reader.needed("rounds", reader.count),
                length: length,
                batchSize: try reader.needed("batch_size", reader.count),
                maximumLength: try reader.needed("max_length", reader.count),
                clip: try reader.needed("clip", reader.number),
                weightDecay: try reader.needed("weight_decay", reader.number))
        } catch {
            throw error.code == .malformed ? error : WeakTrainingError(.malformed, "\(path): \(error.reason)", hint: error.hint)
        }
        try reader.checkKeys(members.map(\.key))
    }
}

/// A plan's JSON object, read key by key; nil where a key is missing.
private struct PlanReader {
    private let path: String
    private let members: [JSONValue.Member]

    init(_ bytes: [UInt8], path: String) throws(WeakTrainingError) {
        self.path = path
        let json: JSONValue
        do throws(FormatError) {
            json = try JSONValue.parse(bytes, path: path)
        } catch {
            throw WeakTrainingError(.malformed, "\(error)")
        }
        guard let members = json.members else { throw WeakTrainingError(.malformed, "\(path): not a JSON object") }
        self.members = members
    }

    private func malformed(_ key: String, _ wrong: String) -> WeakTrainingError {
        WeakTrainingError(.malformed, "\(path): \(key) \(wrong)")
    }

    private func value<Value>(
        _ key: String, _ wanted: String, _ get: (JSONValue) -> Value?
    ) throws(WeakTrainingError) -> Value? {
        guard let member = members.first(where: { $0.key == key }) else { return nil }
        guard let value = get(member.value) else { throw malformed(key, "is not \(wanted)") }
        return value
    }

    func needed<Value>(
        _ key: String, _ read: (String) throws(WeakTrainingError) -> Value?
    ) throws(WeakTrainingError) -> Value {
        guard let value = try read(key) else { throw malformed(key, "is missing") }
        return value
    }

    func text(_ key: String) throws(WeakTrainingError) -> String? { try value(key, "a string") { $0.string } }
    func number(_ key: String) throws(WeakTrainingError) -> Double? { try value(key, "a number") { $0.double } }
    func unsigned(_ key: String) throws(WeakTrainingError) -> UInt64? { try value(key, "a whole number") { $0.unsigned } }

    func count(_ key: String) throws(WeakTrainingError) -> Int? {
        try value(key, "a whole number") { value in value.unsigned.flatMap { Int(exactly: $0) } }
    }

    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ key: String) throws(WeakTrainingError) -> Choice? {
        try value(key, "one of \(Choice.allCases.map(\.rawValue).joined(separator: ", "))") { value in
            value.string.flatMap { Choice(rawValue: $0) }
        }
    }

    func coefficients(_ key: String) throws(WeakTrainingError) -> Curriculum.Coefficients? {
        let numbers = try value(key, "three numbers") { value -> [Double]? in
            guard let numbers = value.array?.compactMap(\.double), numbers.count == 3, value.array?.count == 3 else { return nil }
            return numbers
        }
        guard let numbers else { return nil }
        return try Curriculum.Coefficients(a: numbers[0], b: numbers[1], c: numbers[2])
    }

    /// - Parameter wanted: the keys there should be, each once.
    func checkKeys(_ wanted: [String]) throws(WeakTrainingError) {
        var missing = wanted.map(ExactName.init)
        for member in members {
            guard let place = missing.firstIndex(of: ExactName(member.key)) else {
                // As JSON writes it: an unknown key may hold anything, line feeds too.
                let key = JSONValue.string(member.key).text
                throw malformed(key, wanted.contains(member.key) ? "is there twice" : "is unknown")
            }
            missing.remove(at: place)
        }
        if let key = missing.first { throw malformed(key.string, "is missing") }
    }
}
