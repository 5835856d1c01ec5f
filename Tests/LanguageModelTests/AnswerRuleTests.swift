import Testing

@testable import LanguageModel

@Suite struct AnswerRuleTests {
    @Test(arguments: [
        ("so 3 #### 1,234", "1234"), ("#### 1 #### 2 \n", "2"), ("####1,234,567.5", "1234567.5"), ("#### 12,34", "12,34"),
        ("#### a, b", "a, b"), ("none", nil), ("####  ", nil),
    ] as [(String, String?)]) func theAnswerFollowsTheLastMarker(_ text: String, _ answer: String?) throws {
        #expect(try AnswerRule().answer(in: text, whole: false) == answer)
    }

    @Test func aPatternsLastMatchAndItsFirstGroup() throws {
        #expect(try AnswerRule(pattern: "[0-9]+").answer(in: "1 then 22", whole: false) == "22")
        #expect(try AnswerRule(pattern: "= *([0-9,]+)").answer(in: "=1 =2,000.", whole: false) == "2000")
        #expect(try AnswerRule(pattern: "(x)|y").answer(in: "x y", whole: false) == nil)
        #expect(try AnswerRule(pattern: "x").answer(in: "y", whole: false) == nil)
        #expect(throws: LanguageModelError.self) { try AnswerRule(pattern: "(") }
    }

    @Test func withoutAMarkerTheWholeTextIsTheAnswer() throws {
        let rule = try AnswerRule()
        #expect(rule.isWhole("5") && !rule.isWhole("#### 5") && rule.answer(in: " 5\n", whole: true) == "5")
        #expect(try !AnswerRule(pattern: "5").isWhole("5"))
    }

    /// The roots of (p - share)^2 = z^2 p (1 - p) / n.
    @Test func intervalsOfShares() {
        #expect(WilsonInterval(0, of: 10).low == 0 && abs(WilsonInterval(0, of: 10).high - 0.2775327998628892) < 1e-9)
        let interval = WilsonInterval(11, of: 64)
        #expect(abs(interval.low - 0.09877742301244644) < 1e-12 && abs(interval.high - 0.2821321162265821) < 1e-12)
        #expect(WilsonInterval(10, of: 10).high == 1)
    }
}
