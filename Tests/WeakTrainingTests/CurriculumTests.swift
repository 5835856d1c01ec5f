import Foundation
import TestSupport
import Testing
import WeakTraining

@Suite struct CurriculumTests {
    static let ids = (0..<30).map { "s\($0)" }

    static func entropies(_ seed: UInt64) -> [Double] {
        var generator = SeededGenerator(seed: seed)
        return ids.map { _ in Double(generator.below(1000)) / 400 }
    }

    static func weights(
        _ selection: Selection, _ weak: [Double?], _ strong: [Double?], _ coefficients: Curriculum.Coefficients = .init()
    ) throws(WeakTrainingError) -> [Double] {
        try Curriculum(selection, coefficients).weights(ids: ids, weak: weak, strong: strong)
    }

    /// One weight, straight from the table of the method.
    static func plain(_ selection: Selection, _ i: Int, _ weak: [Double], _ strong: [Double], _ k: Curriculum.Coefficients) -> Double {
        func surer(_ i: Int) -> Double { strong[i] < weak[i] ? weak[i] - strong[i] : 0 }
        func lessSure(_ i: Int) -> Double { strong[i] > weak[i] ? strong[i] - weak[i] : 0 }
        func share(_ factor: Double, _ term: (Int) -> Double) -> Double {
            var sum = 0.0
            for j in weak.indices { sum += term(j) }
            return sum == 0 ? 0 : factor * (term(i) / sum)
        }
        switch selection {
        case .v1: return k.a * weak[i] + k.b * surer(i) + k.c * lessSure(i)
        case .v2: return k.a * surer(i) + k.b * strong[i] + k.c * lessSure(i)
        case .code: return share(k.a) { weak[$0] } + share(k.b, surer) + share(k.c, lessSure)
        default: return 1
        }
    }

    @Test(arguments: [Selection.uniform, .v1, .v2, .code], [[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [1, 0, 3]])
    func `weights are those of the table`(_ selection: Selection, _ numbers: [Double]) throws {
        let coefficients = try Curriculum.Coefficients(a: numbers[0], b: numbers[1], c: numbers[2])
        let (weak, strong) = (CurriculumTests.entropies(1), CurriculumTests.entropies(2))
        let weights = try CurriculumTests.weights(selection, weak, strong, coefficients)
        for i in weak.indices {
            #expect(abs(weights[i] - CurriculumTests.plain(selection, i, weak, strong, coefficients)) < 1e-14)
        }
    }

    @Test func `the defaults are those of the paper`() {
        let defaults = Curriculum.Coefficients()
        #expect(defaults.a == 0.1 && defaults.b == 0.8 && defaults.c == 0.1)
    }

    @Test func `terms of code without a sum contribute nothing`() throws {
        let weak = CurriculumTests.entropies(1).map { $0 + 1 }
        let sure = weak.map { $0 / 2 }
        let weights = try CurriculumTests.weights(.code, weak, sure)
        let sum = weak.reduce(0, +)
        for i in weak.indices { #expect(abs(weights[i] - 0.9 * weak[i] / sum) < 1e-14) }
        // Of two equal snapshots nothing is left but the weak one's entropy.
        #expect(abs(try CurriculumTests.weights(.code, weak, weak).reduce(0, +) - 0.1) < 1e-14)
    }

    @Test func `code can be written as a formula`() throws {
        let (weak, strong) = (CurriculumTests.entropies(1), CurriculumTests.entropies(2))
        let text = ".1*H_weak/sum(H_weak) + .8*[-dH]+/sum([-dH]+) + .1*[dH]+/sum([dH]+)"
        #expect(try CurriculumTests.weights(Selection(text), weak, strong) == CurriculumTests.weights(.code, weak, strong))
        let v1 = try Selection(".1*H_weak + .8*[-dH]+ + .1*[dH]+")
        #expect(try CurriculumTests.weights(v1, weak, strong) == CurriculumTests.weights(.v1, weak, strong))
        let v2 = try Selection(".1*[-dH]+ + .8*H_strong + .1*[dH]+")
        #expect(try CurriculumTests.weights(v2, weak, strong) == CurriculumTests.weights(.v2, weak, strong))
    }

    @Test(arguments: [Selection.v1, .v2, .code])
    func `an entropy that is missing or no number is named`(_ selection: Selection) {
        let good = CurriculumTests.entropies(1)
        let cases: [(Double?, String)] = [(nil, "has no entropy"), (.nan, "is nan"), (.infinity, "is inf"), (-0.5, "is -0.5")]
        for (bad, said) in cases {
            var broken: [Double?] = good
            broken[7] = bad
            for (weak, strong, which) in [(broken, good, "weak"), (good, broken, "strong")] as [([Double?], [Double?], String)] {
                let error = #expect(throws: WeakTrainingError.self) { try CurriculumTests.weights(selection, weak, strong) }
                #expect(error?.code == .badInput)
                #expect(error?.reason.hasPrefix("sample s7: the \(which) snapshot") == true && error?.reason.hasSuffix(said) == true)
            }
        }
        #expect(throws: WeakTrainingError.self) { try CurriculumTests.weights(selection, Array(good.dropLast()), good) }
    }

    @Test func `what a selection does not read may be missing`() throws {
        let none = [Double?](repeating: nil, count: 30)
        let good = CurriculumTests.entropies(1)
        #expect(try CurriculumTests.weights(.uniform, none, []) == [Double](repeating: 1, count: 30))
        #expect(try CurriculumTests.weights(Selection("H_strong + 1"), none, good) == good.map { $0 + 1 })
    }

    @Test(arguments: [
        ("dH", "sample s3: its weight"), ("ln(H_weak)", "sample s3: its weight"), ("(H_weak - 1) ^ .5", "sample s3: its weight"),
        ("1 / abs(dH + .25)", "sample s3: its weight"), ("0", "the sum 0.0"), ("[H_weak - 100]+", "the sum 0.0"),
        ("1e308", "the sum inf"), ("1e-320", "the sum "),
    ])
    func `weights that cannot be drawn by are refused`(_ formula: String, _ said: String) throws {
        let weak = CurriculumTests.ids.indices.map { $0 == 3 ? 0.5 : 1.5 }
        let strong = CurriculumTests.ids.indices.map { $0 == 3 ? 0.25 : 2 }
        let selection = try Selection(formula)
        let error = #expect(throws: WeakTrainingError.self) { try CurriculumTests.weights(selection, weak, strong) }
        #expect(error?.code == .badInput && error?.reason.contains(said) == true, "\(error?.reason ?? "")")
    }

    @Test func `no samples and impossible coefficients are refused`() {
        #expect(throws: WeakTrainingError.self) { try Curriculum(.uniform).weights(ids: [], weak: [], strong: []) }
        for (a, b, c) in [(-0.1, 1, 0), (.nan, 1, 0), (0, 0, 0), (.infinity, 0, 0)] as [(Double, Double, Double)] {
            #expect(throws: WeakTrainingError.self) { try Curriculum.Coefficients(a: a, b: b, c: c) }
        }
    }

    @Test func `a name that is none says which there are`() {
        let error = #expect(throws: WeakTrainingError.self) { try Selection("v3") }
        #expect(error?.reason == "--select: column 1: v3 is unknown")
        #expect(error?.hint?.hasPrefix("uniform, v1, v2 and code are names; in a formula known are H_weak") == true)
    }

    @Test(arguments: ["uniform", "v1", "v2", "code", "[-dH]+ + .01"]) func `a selection's text is its name`(_ text: String) throws {
        #expect(try Selection(text).text == text)
    }
}
