import LanguageModel
import Testing

@Test func errorsReadAsOneLineWithTheirHint() {
    #expect("\(LanguageModelError(.missing, "config.json: no vocab_size"))" == "config.json: no vocab_size")
    #expect("\(LanguageModelError(.missing, "a", hint: "b"))" == "a (hint: b)")
}
