import TensorFormats

/// A page about a training run that needs nothing but itself: facts, charts of what its log says, and the snapshots it saved.
///
/// The log's lines are objects: those of steps, and those of saves, which have "saved". A step that is there twice, as after a
/// resumption, counts as it was last. What is no finite number is left out of the charts, and its steps are counted.
struct TrainingReport {
    var title: String
    var facts: [(String, String)]
    var log: [JSONValue]

    /// - Parameters:
    ///   - facts: a name and a value each, in the order of the table.
    ///   - log: the lines in their order.
    init(title: String, facts: [(String, String)], log: [JSONValue]) {
        self.title = title
        self.facts = facts
        self.log = log
    }

    /// The whole document. O(lines of the log).
    var html: String {
        let steps = log.filter { $0["saved"] == nil }
        let saves = log.filter { $0["saved"] != nil }
        var out = ""
        if !facts.isEmpty {
            let rows = facts.map { "<tr><th scope=\"row\">\($0.0.escapedForHTML)</th><td>\($0.1.escapedForHTML)</td></tr>\n" }
            out += "<table>\n\(rows.joined())</table>\n"
        }
        let broken = steps.filter { $0["loss"] != nil && TrainingReport.number($0, "loss") == nil }
        if let first = broken.first {
            let place = TrainingReport.number(first, "step").map { "; the first is step \(Format.fixed($0, 0))" } ?? ""
            out += "<p class=\"warning\">Steps whose loss is no finite number: \(broken.count)\(place).</p>\n"
        }
        let charts = TrainingReport.charts(steps, saves).filter { !$0.lines.isEmpty }
        if charts.isEmpty { out += "<p>The log has no steps yet.</p>\n" }
        out += "<div class=\"charts\">\n\(charts.map(figure).joined())</div>\n"
        if !saves.isEmpty { out += table(saves) }
        out += "<script>\n\(TrainingReport.script)\n</script>\n"
        return HTMLPage.html(title: title, heading: title, style: TrainingReport.style, body: out)
    }

    // MARK: Numbers

    /// Beyond these, differences of two leave the range of numbers that charts reckon in.
    private static let largest = 1e100

    private static func number(_ line: JSONValue, _ key: String) -> Double? {
        guard let number = line[key]?.double, number.magnitude < largest else { return nil }
        return number
    }

    private static func points(_ lines: [JSONValue], _ value: (JSONValue) -> Double?) -> [(step: Double, value: Double)] {
        var last: [Double: Double?] = [:]
        for line in lines {
            if let step = number(line, "step") { last[step] = .some(value(line)) }
        }
        return last.compactMap { step, value in value.map { (step, $0) } }.sorted { $0.step < $1.step }
    }

    private static func charts(_ steps: [JSONValue], _ saves: [JSONValue]) -> [TrainingChart] {
        func line(_ name: String, _ key: String, of lines: [JSONValue]) -> TrainingChart.Line {
            (name, points(lines) { number($0, key) })
        }
        let speed = points(steps) { step in
            guard let tokens = number(step, "tokens"), let seconds = number(step, "seconds"), seconds > 0 else { return nil }
            let speed = tokens / seconds
            return speed.magnitude < largest ? speed : nil
        }
        return [
            TrainingChart("Loss, nats per token", [line("loss", "loss", of: steps), line("NLL", "nll", of: steps)]),
            TrainingChart("Entropy, nats per token", [line("strong", "entropy", of: steps), line("weak", "weak_entropy", of: steps)]),
            TrainingChart("Mean ln C, nats per token", [line("ln C", "ln_c", of: steps)]),
            TrainingChart("Mean P(y)", [line("P(y)", "p", of: steps)]),
            TrainingChart("Learning rate", [line("rate", "rate", of: steps)], isNoisy: false),
            TrainingChart(
                "Gradient norm", [line("strong", "gradient_norm", of: steps), line("weak", "weak_gradient_norm", of: steps)]),
            TrainingChart("Tokens per second", [("tokens per second", speed)]),
            TrainingChart("Evaluation: NLL, nats per token", [line("NLL", "eval_nll", of: saves)], isNoisy: false),
            TrainingChart("Evaluation: accuracy", [line("accuracy", "eval_accuracy", of: saves)], isNoisy: false),
        ]
    }

    // MARK: Parts of the page

    private func figure(_ chart: TrainingChart) -> String {
        let names = chart.lines.enumerated().map { "<span class=\"key line\($0.offset)\">\($0.element.name.escapedForHTML)</span>" }
        return "<figure>\n<figcaption>\(chart.title.escapedForHTML) \(names.joined(separator: " "))</figcaption>\n"
            + "\(chart.svg)<p class=\"read\">&#160;</p>\n</figure>\n"
    }

    private func table(_ saves: [JSONValue]) -> String {
        typealias Column = (title: String, text: (JSONValue) -> String?)
        func number(_ key: String, _ format: @escaping (Double) -> String) -> (JSONValue) -> String? {
            { TrainingReport.number($0, key).map(format) }
        }
        let columns: [Column] = [
            ("Step", number("step") { Format.fixed($0, 0) }), ("Saved", { $0["saved"]?.string }),
            ("Snapshot", { $0["snapshot"]?.string.map { String($0.prefix(12)) } }), ("NLL", number("eval_nll") { Format.fixed($0, 4) }),
            ("Entropy", number("eval_entropy") { Format.fixed($0, 4) }), ("Accuracy", number("eval_accuracy") { Format.fixed(100 * $0, 1) + " %" }),
        ]
        // What none of them has is no column.
        let shown = columns.filter { column in saves.contains { column.text($0) != nil } }
        let heads = shown.map { "<th scope=\"col\">\($0.title)</th>" }
        let rows = saves.map { save in
            "<tr>" + shown.map { "<td>\(($0.text(save) ?? "").escapedForHTML)</td>" }.joined() + "</tr>\n"
        }
        return "<h2>Saved</h2>\n<table>\n<tr>\(heads.joined())</tr>\n\(rows.joined())</table>\n"
    }

    private static let style = """
        :root {
          color-scheme: light dark;
          --ink: #1d2127; --faint: #68707c; --rule: #dde1e7; --paper: #fff; --line0: #1f5fbf; --line1: #b4540a;
        }
        @media (prefers-color-scheme: dark) {
          :root { --ink: #e4e7ec; --faint: #98a1ae; --rule: #363c46; --paper: #16191e; --line0: #79abf5; --line1: #f0a35e; }
        }
        body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; background: var(--paper); color: var(--ink); }
        body { font: 15px/1.45 system-ui, sans-serif; }
        h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
        h2 { font-size: 1.1rem; }
        table { border-collapse: collapse; margin: 1rem 0; }
        td, th { padding: .2rem .9rem .2rem 0; text-align: left; border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
        td { font-variant-numeric: tabular-nums; }
        th { color: var(--faint); font-weight: 500; }
        .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1rem 2rem; }
        figure { margin: 0; min-width: 0; }
        figcaption { font-weight: 600; }
        .key { font-weight: 400; margin-left: .8rem; color: var(--c); }
        .key::before { content: "\\2014\\00a0"; }
        .line0 { --c: var(--line0); }
        .line1 { --c: var(--line1); }
        svg { display: block; width: 100%; height: auto; }
        svg text { font-size: 11px; fill: var(--faint); }
        polyline { fill: none; stroke: var(--c); stroke-width: 1.6; stroke-linejoin: round; }
        polyline.light { stroke-width: 1; opacity: .35; }
        polyline.line1:not(.light) { stroke-dasharray: 5 3; }
        circle { fill: var(--c); }
        .grid { stroke: var(--rule); }
        .axis, .mark { stroke: var(--faint); }
        .mark { stroke-dasharray: 2 2; visibility: hidden; }
        .read { margin: 0; min-height: 1.4em; color: var(--faint); font-variant-numeric: tabular-nums; }
        .warning { font-weight: 600; }
        """

    /// The nearest step under the pointer, and the values there.
    private static let script = """
        for (const chart of document.querySelectorAll("svg.chart")) {
          const mark = chart.querySelector(".mark"), read = chart.parentNode.querySelector(".read");
          const lines = [...chart.querySelectorAll(".seen")].map(line => ({
            name: line.dataset.name, x: Array.from(line.points, p => p.x),
            numbers: line.dataset.numbers.split(",").map(pair => pair.split(" "))
          }));
          const nearest = (line, at) =>
            line.x.reduce((best, x, i) => Math.abs(x - at) < Math.abs(line.x[best] - at) ? i : best, 0);
          chart.addEventListener("pointermove", event => {
            const box = chart.getBoundingClientRect();
            const at = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
            const first = nearest(lines[0], at), x = lines[0].x[first];
            mark.setAttribute("x1", x); mark.setAttribute("x2", x); mark.style.visibility = "visible";
            const values = lines.map(line => line.name + " " + line.numbers[nearest(line, x)][1]);
            read.textContent = ["step " + lines[0].numbers[first][0], ...values].join(" \\u00b7 ");
          });
          chart.addEventListener("pointerleave", () => { mark.style.visibility = "hidden"; read.textContent = "\\u00a0"; });
        }
        """
}
