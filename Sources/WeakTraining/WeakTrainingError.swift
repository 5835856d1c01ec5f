/// Why a recipe, a curriculum or a plan was refused. One line for people.
public struct WeakTrainingError: Error, Sendable, CustomStringConvertible {
    /// Opaque, so that new cases do not break callers.
    public struct Code: Sendable, Hashable {
        private enum Value: Hashable { case usage, badInput, malformed }
        private let value: Value
        /// An option that cannot be, or that does not go with another one.
        public static let usage = Code(value: .usage)
        /// A sample's figures cannot be used.
        public static let badInput = Code(value: .badInput)
        /// A plan that was kept does not say what it must.
        public static let malformed = Code(value: .malformed)
    }

    /// What callers decide by.
    public var code: Code
    /// The option, file or sample, then what is wrong with it.
    public var reason: String
    /// What to do about it.
    public var hint: String?

    public init(_ code: Code, _ reason: String, hint: String? = nil) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    /// Reason and hint.
    public var description: String {
        guard let hint else { return reason }
        return "\(reason) (hint: \(hint))"
    }
}
