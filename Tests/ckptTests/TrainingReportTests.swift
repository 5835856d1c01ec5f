import Foundation
import TensorFormats
import Testing

@testable import ckpt

#if canImport(FoundationXML)
import FoundationXML
#endif

@Suite struct TrainingReportTests {
    private func line(_ text: String) throws -> JSONValue { try JSONValue.parse(Array(text.utf8), path: "log") }

    private func step(_ step: Int, weak: Bool = true) throws -> JSONValue {
        let loss = 2 / Double(1 + step)
        let more = weak ? #", "weak_entropy": 0.4, "ln_c": -0.02, "weak_gradient_norm": 0.5"# : ""
        return try line(
            """
            {"step": \(step), "round": 0, "pass": 0, "loss": \(loss), "nll": \(loss / 2), "entropy": 0.1, "p": 0.9, "rate": 1e-5,
             "gradient_norm": 1.5, "tokens": 4096, "supervised_tokens": 900, "seconds": 0.5\(more)}
            """)
    }

    private func charts(_ html: String) -> [String] {
        html.components(separatedBy: "<svg ").dropFirst().map { "<svg " + $0.components(separatedBy: "</svg>")[0] + "</svg>" }
    }

    /// Every chart is XML, and the page's elements close in order.
    private func expectWellFormed(_ html: String) {
        for chart in charts(html) { #expect(XMLParser(data: Data(chart.utf8)).parse(), "\(chart.prefix(300))") }
        let body = html.components(separatedBy: "<body>")[1].components(separatedBy: "<script>")[0]
        #expect(XMLParser(data: Data("<body>\(body)</body>".utf8)).parse())
        for bad in ["nan", "inf", "NaN\"", "http:", "https:"] {
            #expect(!html.replacing("http://www.w3.org/2000/svg", with: "").contains(bad), "\(bad)")
        }
    }

    @Test(arguments: [1, 2, 19, 300]) func `charts of a pair`(count: Int) throws {
        var log = try (0..<count).map { try step($0) }
        log.append(
            try line(
                #"{"step": 100, "saved": "run@100", "snapshot": "0123456789abcdef", "eval_nll": 0.5, "eval_accuracy": 0.625, "eval_samples": 64}"#))
        let html = TrainingReport(title: "wmss", facts: [("Preset", "wmss")], log: log).html
        expectWellFormed(html)
        #expect(charts(html).count == 9)
        for wanted in ["run@100", "0123456789ab", "62.5 %", "Preset", "8192", "prefers-color-scheme"] { #expect(html.contains(wanted), "\(wanted)") }
        #expect(html.contains("class=\"smooth") == (count >= 20))
    }

    @Test func `without a weak, and without evaluations`() throws {
        let log = try (0..<30).map { try step($0, weak: false) } + [try line(#"{"step": 30, "saved": "run@30", "snapshot": "ab"}"#)]
        let html = TrainingReport(title: "sft", facts: [], log: log).html
        expectWellFormed(html)
        #expect(charts(html).count == 6 && html.contains("run@30") && !html.contains("ln C"))
    }

    @Test func `an empty log`() {
        let html = TrainingReport(title: "", facts: [], log: []).html
        expectWellFormed(html)
        #expect(charts(html).isEmpty && html.contains("no steps yet"))
    }

    @Test func `texts from outside stay texts`() throws {
        let hostile = "</title><script>alert('\"&')</script>\u{0}\u{1B}\u{FFFE}"
        let save = JSONValue.object([
            .init(key: "step", value: .unsigned(1)), .init(key: "saved", value: .string(hostile)),
            .init(key: "snapshot", value: .string("<b>\"")), .init(key: "eval_nll", value: .string(hostile)),
        ])
        let html = TrainingReport(title: hostile, facts: [(hostile, hostile)], log: [try step(1), save]).html
        expectWellFormed(html)
        #expect(html.components(separatedBy: "<script>").count == 2 && !html.contains("alert('") && !html.contains("<b>"))
        let title = html.components(separatedBy: "<title>")[1].components(separatedBy: "</title>")[0]
        #expect(title.hasPrefix("&lt;/title&gt;&lt;script&gt;alert(&#39;&quot;&amp;&#39;)"))
    }

    @Test func `what is no number is left out and counted`() throws {
        func broken(_ step: UInt64, _ loss: JSONValue) -> JSONValue {
            .object([.init(key: "step", value: .unsigned(step)), .init(key: "loss", value: loss), .init(key: "seconds", value: .double(0))])
        }
        let log = try [step(1), step(2)] + [
            broken(3, .double(.nan)), broken(4, .double(.infinity)), broken(5, .null), broken(6, .double(1e308)), broken(7, .string("1")),
            .object([.init(key: "loss", value: .double(1))]), .null, .array([.unsigned(1)]), .object([]),
            .object([.init(key: "step", value: .double(.nan)), .init(key: "saved", value: .null)]),
        ]
        let html = TrainingReport(title: "nan test", facts: [], log: log).html.replacing("nan test", with: "")
        expectWellFormed(html)
        #expect(html.contains("no finite number: 5; the first is step 3."))
    }

    @Test func `peaks of a long log are kept`() {
        var points = (0..<100_000).map { (step: Double($0), value: 1.0) }
        points[54_321].value = 50
        points[77_777].value = -50
        let thinned = TrainingChart.thinned(points)
        #expect(thinned.count <= 2000)
        #expect(thinned.contains { $0.step == 54_321 } && thinned.contains { $0.step == 77_777 })
        #expect(zip(thinned, thinned.dropFirst()).allSatisfy { $0.step < $1.step })
    }

    @Test func `ticks are round and within`() {
        for range in [0...1, -0.3...1, -3...7.5, 1e-9...3e-9, 0...123_456, 1e90...9e90, 0.999...1.001] as [ClosedRange<Double>] {
            let ticks = TrainingChart.ticks(range)
            #expect((2...11).contains(ticks.count), "\(range): \(ticks)")
            let margin = (range.upperBound - range.lowerBound) * 1e-6
            #expect(ticks.allSatisfy { $0 >= range.lowerBound - margin && $0 <= range.upperBound + margin })
        }
    }

    @Test func `the smoothed line begins where the numbers do`() {
        let smoothed = TrainingChart.smoothed((0..<50).map { (Double($0), 3) })
        #expect(smoothed.allSatisfy { abs($0.value - 3) < 1e-12 })
    }

    @Test(arguments: [0, 5e-324, 1e-310, -2.5, 1e99]) func `all numbers alike`(value: Double) throws {
        let chart = TrainingChart("", [("a", [(0, value), (1, value)]), ("b", [(0, 0)])])
        #expect(XMLParser(data: Data(chart.svg.utf8)).parse() && !chart.svg.contains("nan") && !chart.svg.contains(">-0<"))
    }

    /// Resumed from step 1: what came last counts.
    @Test func `a step that is there twice counts once`() throws {
        let log = try [step(1), step(2), line(#"{"step": 2, "loss": 7.25}"#)]
        let html = TrainingReport(title: "", facts: [], log: log).html
        #expect(html.contains("data-numbers=\"1 1,2 7.25\""))
    }
}
