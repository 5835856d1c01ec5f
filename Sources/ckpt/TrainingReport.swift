import TensorFormats
struct TrainingReport {
    init(title: String, facts: [(String, String)], log: [JSONValue]) {}
    var html: String { "" }
}
