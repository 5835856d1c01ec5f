#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#elseif canImport(Darwin)
    import Darwin
#endif

/// Arithmetic over the entropies of samples, one value a sample.
///
/// ```
/// sum     = product (("+" | "-") product)*
/// product = factor (("*" | "/") factor)*
/// factor  = "-" factor | power
/// power   = value ("^" factor)?
/// value   = number | H_weak | H_strong | dH | function "(" sum ("," sum)* ")" | "(" sum ")" | "[" sum "]+"
/// ```
///
/// dH is H_strong - H_weak. `[x]+` and `relu(x)` are the greater of x and zero; `sum(x)` and `mean(x)` are over all samples and
/// the same for each; `min` and `max` take two or more; `abs`, `exp` and `ln` are what they are called. -x^2 is -(x^2) and
/// x^y^z is x^(y^z). So `code` is `.1*H_weak/sum(H_weak) + .8*[-dH]+/sum([-dH]+) + .1*[dH]+/sum([dH]+)`, but that a term whose
/// sum is zero is not a number here.
public struct Formula: Sendable, Equatable {
    /// What a formula reads of a sample.
    public enum Variable: String, Sendable, CaseIterable {
        /// The weak snapshot's entropy.
        case weak = "H_weak"
        /// The strong snapshot's entropy.
        case strong = "H_strong"
        /// The strong one less the weak one.
        case difference = "dH"
    }

    enum Function: String, CaseIterable {
        case min, max, abs, exp, ln, relu, sum, mean

        var takesSeveral: Bool { self == .min || self == .max }
    }

    /// Takes its operands from a stack and puts its result there.
    enum Step: Equatable {
        case number(Double)
        case variable(Variable)
        case add, subtract, multiply, divide, raise, negate
        case function(Function)
    }

    /// As it was written.
    public let text: String
    /// In postfix order: evaluation needs no recursion, however long the text.
    private let steps: [Step]

    /// - Parameter option: what errors begin with.
    /// - Throws: `.usage` with the column, counted in characters from 1.
    /// - Complexity: O(n) in the text.
    public init(_ text: String, option: String = "--select") throws(WeakTrainingError) {
        self.text = text
        var parser = FormulaParser(text, option: option)
        steps = try parser.parse()
    }

    /// Whether it reads `variable`; a difference reads the weak and the strong one's entropy too.
    public func reads(_ variable: Variable) -> Bool {
        steps.contains(.variable(variable)) || (variable != .difference && steps.contains(.variable(.difference)))
    }

    /// One value a sample, not checked: infinite or not a number where the arithmetic makes it so.
    ///
    /// - Parameters:
    ///   - weak: entropies, one a sample.
    ///   - strong: as many.
    /// - Complexity: O(steps * samples).
    public func values(weak: [Double], strong: [Double]) -> [Double] {
        precondition(weak.count == strong.count)
        var stack: [[Double]] = []
        for step in steps {
            switch step {
            case .number(let number): stack.append([Double](repeating: number, count: weak.count))
            case .variable(.weak): stack.append(weak)
            case .variable(.strong): stack.append(strong)
            case .variable(.difference): stack.append(zip(strong, weak).map { $0 - $1 })
            case .negate: stack.append(stack.removeLast().map { -$0 })
            case .add: Formula.combine(&stack, +)
            case .subtract: Formula.combine(&stack, -)
            case .multiply: Formula.combine(&stack, *)
            case .divide: Formula.combine(&stack, /)
            case .raise: Formula.combine(&stack, pow)
            // What is not a number stays so: a maximum with zero would hide it.
            case .function(.min): Formula.combine(&stack) { $0.isNaN || $1.isNaN ? .nan : Swift.min($0, $1) }
            case .function(.max): Formula.combine(&stack) { $0.isNaN || $1.isNaN ? .nan : Swift.max($0, $1) }
            case .function(.relu): stack.append(stack.removeLast().map(Curriculum.positive))
            case .function(.abs): stack.append(stack.removeLast().map { $0.magnitude })
            case .function(.exp): stack.append(stack.removeLast().map { exp($0) })
            case .function(.ln): stack.append(stack.removeLast().map { log($0) })
            case .function(.sum):
                let values = stack.removeLast()
                stack.append([Double](repeating: values.reduce(0, +), count: values.count))
            case .function(.mean):
                let values = stack.removeLast()
                stack.append([Double](repeating: values.reduce(0, +) / Double(values.count), count: values.count))
            }
        }
        return stack[0]
    }

    private static func combine(_ stack: inout [[Double]], _ operation: (Double, Double) -> Double) {
        let right = stack.removeLast()
        let left = stack.removeLast()
        stack.append(zip(left, right).map(operation))
    }
}
