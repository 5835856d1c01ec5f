internal import CheckpointStore
internal import TensorFormats

/// How far a training is: what the state to go on from has beside weights and moments.
struct TrainingProgress: Equatable {
    /// From 0.
    var round = 0
    /// Steps of this round that are done, and of all rounds before it and it.
    var stepInRound = 0
    var step = 0
    /// Steps of the rounds before this one together.
    var earlierSteps: Int { step - stepInRound }
    /// The snapshot this round began with; nil before it has begun.
    var strong: ContentID?
    /// The weak ones: before it has begun those that are fixed by then.
    var weaks: [ContentID] = []
    /// The strong model's share of the mixed logits, where it was chosen to match a mix.
    var share: Double?
    /// Over the weights that samples are drawn by.
    var weightsHash = ""

    var json: JSONValue {
        var members: [JSONValue.Member] = [
            .init(key: "round", value: .unsigned(UInt64(round))),
            .init(key: "step_in_round", value: .unsigned(UInt64(stepInRound))), .init(key: "step", value: .unsigned(UInt64(step))),
            .init(key: "strong", value: .string(strong.map { "\($0)" } ?? "")), .init(key: "weak", value: .array(weaks.map { .string("\($0)") })),
            .init(key: "weights", value: .string(weightsHash)),
        ]
        if let share { members.append(.init(key: "share", value: .double(share))) }
        return .object(members)
    }

    init() {}

    /// More than any plan has: steps can be added to it.
    private static let greatestStep = 1 << 62

    /// What `json` wrote.
    ///
    /// - Throws: `.damaged`.
    init(_ text: String, path: String) throws(StoreError) {
        func damaged() -> StoreError {
            StoreError(.damaged, "\(path): its progress cannot be read", hint: "another --run begins anew")
        }
        guard let json = try? JSONValue.parse(Array(text.utf8), path: path),
            let round = json["round"]?.unsigned.flatMap({ Int(exactly: $0) }),
            let stepInRound = json["step_in_round"]?.unsigned.flatMap({ Int(exactly: $0) }),
            let step = json["step"]?.unsigned.flatMap({ Int(exactly: $0) }), step >= stepInRound, round <= step, step <= TrainingProgress.greatestStep,
            let strong = json["strong"]?.string, strong.isEmpty || ContentID(digits: strong) != nil,
            let weaks = json["weak"]?.array, let weights = json["weights"]?.string
        else { throw damaged() }
        self.round = round
        self.stepInRound = stepInRound
        self.step = step
        self.strong = ContentID(digits: strong)
        self.weaks = weaks.compactMap { $0.string.flatMap { ContentID(digits: $0) } }
        weightsHash = weights
        share = json["share"]?.double
        guard self.weaks.count == weaks.count else { throw damaged() }
    }
}
