import Foundation
import Testing
import WeakTraining

@Suite struct FormulaTests {
    static let weak = [1.0, 0.5, 2.0, 0.25]
    static let strong = [0.5, 0.75, 0.25, 0.25]

    static func values(_ text: String) throws -> [Double] { try Formula(text).values(weak: weak, strong: strong) }

    @Test(arguments: [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 - 2 - 1", 4), ("8 / 4 / 2", 1), ("2 ^ 3 ^ 2", 512), ("-2 ^ 2", -4), ("2 ^ -1", 0.5),
        ("--3", 3), ("2 * -3", -6), ("-2 * 3 + 1", -5), (".5 + 1. + 1.5e1 + 2E-1", 16.7), ("min(3, 1, 2)", 1), ("max(1, 3, 2)", 3),
        ("abs(-4) + abs(4)", 8), ("ln(exp(2))", 2), ("relu(-1) + relu(2)", 2), ("[-1]+ + [2]+", 2), ("[3]+-1", 2), ("[1 - [2]+]+", 0),
        ("sum(1)", 4), ("mean(6)", 6), ("sum(H_weak)", 3.75), ("mean(H_strong)", 0.4375), ("sum(H_weak - mean(H_weak))", 0),
        ("\t1\t+ 1 ", 2),
    ]) func `arithmetic is as it is written elsewhere`(_ text: String, _ value: Double) throws {
        for found in try FormulaTests.values(text) { #expect(abs(found - value) < 1e-14, "\(text)") }
    }

    @Test func `the variables are those of the method`() throws {
        #expect(try FormulaTests.values("H_weak") == FormulaTests.weak)
        #expect(try FormulaTests.values("H_strong") == FormulaTests.strong)
        #expect(try FormulaTests.values("dH") == [-0.5, 0.25, -1.75, 0])
        #expect(try FormulaTests.values("[-dH]+ + 10 * [dH]+") == [0.5, 2.5, 1.75, 0])
    }

    @Test func `it knows what it reads`() throws {
        let (weak, both, none) = (try Formula("H_weak ^ 2"), try Formula("abs(dH)"), try Formula("1"))
        #expect(weak.reads(.weak) && !weak.reads(.strong) && !weak.reads(.difference))
        #expect(both.reads(.weak) && both.reads(.strong) && both.reads(.difference))
        #expect(!none.reads(.weak) && !none.reads(.strong))
    }

    @Test(arguments: ["max(0, ln(-1))", "max(ln(-1), 0)", "min(ln(-1), 0)", "relu(0 / 0)", "[0 / 0]+"])
    func `what is no number is never hidden`(_ text: String) throws {
        #expect(try FormulaTests.values(text).allSatisfy(\.isNaN))
    }

    @Test(arguments: [
        ("", "column 1: the formula ends where a value was expected"), ("1 +", "column 4: the formula ends"),
        ("1 2", "column 3: an operator was expected, not 2"), ("H_weka", "column 1: H_weka is unknown"),
        ("1 + dh", "column 5: dh is unknown"), ("max(1)", "column 6: max takes two arguments"), ("abs(1, 2)", "column 6: abs takes one"),
        ("abs 1", "column 5: abs takes its arguments in parentheses"), ("(1", "column 3: the formula ends where ) was expected"),
        ("(1]", "column 3: ) or an operator was expected, not ]"), ("[dH] + 1", "column 5: a bracket is closed by ]+"),
        ("[dH", "column 4: the formula ends where ] was expected"), ("1..2", "column 3: an operator"), ("1e", "column 1: 1e is no number"),
        ("1e999", "column 1: 1e999 is no number"), (".", "column 1: . is no number"), ("2 * ü", "column 5: a value was expected, not ü"),
        ("*2", "column 1: a value was expected, not *"), ("1\n+ 1", "column 2: an operator was expected, not \\n"), ("1)", "column 2: an op"),
        ("max(1,)", "column 7: a value was expected, not )"), ("+1", "column 1: a value"), ("1\u{301}", "column 1: "),
    ]) func `errors name the place, on one line`(_ text: String, _ reason: String) {
        let error = #expect(throws: WeakTrainingError.self) { try Formula(text) }
        #expect(error?.code == .usage)
        #expect(error?.reason.hasPrefix("--select: " + reason) == true, "\(text): \(error?.reason ?? "")")
        #expect(error?.description.contains { $0.isNewline } == false)
    }

    @Test func `deep and long formulas are refused, and end nothing`() throws {
        for text in [
            String(repeating: "(", count: 4000), String(repeating: "-", count: 4000) + "1", String(repeating: "2^", count: 2000) + "1",
            String(repeating: "[", count: 100), String(repeating: "abs(", count: 1000), String(repeating: " ", count: 5000),
        ] {
            #expect(throws: WeakTrainingError.self) { try Formula(text) }
        }
        #expect(try FormulaTests.values(String(repeating: "1+", count: 2047) + "1")[0] == 2048)
    }
}
