import LanguageModel

/// What `ckpt eval` finds out about one model.
struct ModelEvaluation {
    struct Sample {
        var id: String
        var isRight: Bool
        var answer: String?
        var expected: String
        var tokens: Int
        var text: String
    }

    var ref: String
    var step: UInt64?
    var count = 0
    /// In the order of the data; nil where nothing was generated.
    var samples: [Sample]?
    /// Samples of which any of the attempts is right.
    var passed: Int?
    var plain: CalibrationSummary
    var temperature: Double?
    var calibrated: CalibrationSummary?

    var right: Int? { samples.map { $0.count(where: \.isRight) } }
}
