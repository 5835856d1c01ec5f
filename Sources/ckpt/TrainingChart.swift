/// A chart of a training report: lines over steps, as SVG that stands in a page by itself.
struct TrainingChart {
    /// A name, and points in the order of their steps: numbers whose differences are finite.
    typealias Line = (name: String, points: [(step: Double, value: Double)])

    let title: String
    let lines: [Line]
    /// Whether points scatter about what they show.
    private let isNoisy: Bool

    /// Lines without a point are left out.
    init(_ title: String, _ lines: [Line], isNoisy: Bool = true) {
        self.title = title
        self.isNoisy = isNoisy
        self.lines = lines.filter { !$0.points.isEmpty }
    }

    // MARK: Points

    private static let maximumPoints = 2000

    /// At most about `maximumPoints`: of each stretch the smallest and the greatest, so that no peak is lost.
    static func thinned(_ points: [(step: Double, value: Double)]) -> [(step: Double, value: Double)] {
        guard points.count > maximumPoints else { return points }
        let stretches = maximumPoints / 2
        return (0..<stretches).flatMap { stretch in
            let range = points.count * stretch / stretches..<points.count * (stretch + 1) / stretches
            let least = range.min { points[$0].value < points[$1].value }!
            let most = range.max { points[$0].value < points[$1].value }!
            return Set([least, most]).sorted().map { points[$0] }
        }
    }

    /// An exponential mean over about a fiftieth of the points, ten at least; weighted so that the first counts as any other.
    static func smoothed(_ points: [(step: Double, value: Double)]) -> [(step: Double, value: Double)] {
        let keep = 1 - 2 / (max(10, Double(points.count) / 50) + 1)
        var (sum, weight) = (0.0, 0.0)
        return points.map { point in
            sum = keep * sum + (1 - keep) * point.value
            weight = keep * weight + (1 - keep)
            return (point.step, sum / weight)
        }
    }

    /// Fewer points than these are shown as they are.
    private static let pointsToSmooth = 20

    // MARK: Axes

    /// Round numbers within a range, some five.
    static func ticks(_ range: ClosedRange<Double>) -> [Double] {
        let rough = (range.upperBound - range.lowerBound) / 5
        var unit = 1.0
        while unit > rough { unit /= 10 }
        while unit * 10 <= rough { unit *= 10 }
        let step = [1, 2, 5, 10].map { $0 * unit }.first { $0 >= rough * 0.999 } ?? rough
        let first = (range.lowerBound / step).rounded(.up)
        // Zero is added so that none is -0.
        return (0..<12).map { (first + Double($0)) * step + 0 }.filter { $0 <= range.upperBound + step * 1e-9 }
    }

    /// Of some numbers; widened where they are all one.
    private static func range(_ numbers: [Double]) -> ClosedRange<Double> {
        let (low, high) = (numbers.min() ?? 0, numbers.max() ?? 1)
        let least = max(max(abs(low), abs(high)) * 1e-9, 1e-30)
        guard high - low <= least else { return low...high }
        let margin = max(max(abs(low), abs(high)) / 10, 1e-9)
        return low - margin...high + margin
    }

    // MARK: SVG

    private static let (width, height) = (640.0, 260.0)
    private static let (left, right, top, bottom) = (64.0, 628.0, 10.0, 232.0)

    /// O(points).
    var svg: String {
        let (width, height) = (TrainingChart.width, TrainingChart.height)
        let (left, right, top, bottom) = (TrainingChart.left, TrainingChart.right, TrainingChart.top, TrainingChart.bottom)
        let steps = TrainingChart.range(lines.flatMap { $0.points.map(\.step) })
        let values = TrainingChart.range(lines.flatMap { $0.points.map(\.value) })
        func x(_ step: Double) -> Double {
            left + (step - steps.lowerBound) / (steps.upperBound - steps.lowerBound) * (right - left)
        }
        func y(_ value: Double) -> Double {
            bottom - (value - values.lowerBound) / (values.upperBound - values.lowerBound) * (bottom - top)
        }
        func place(_ number: Double) -> String { Format.fixed(number, 1) }
        func across(_ kind: String, _ y: Double) -> String {
            "<line class=\"\(kind)\" x1=\"\(place(left))\" x2=\"\(place(right))\" y1=\"\(place(y))\" y2=\"\(place(y))\"/>\n"
        }
        func text(_ x: Double, _ y: Double, _ anchor: String, _ text: String) -> String {
            "<text x=\"\(place(x))\" y=\"\(place(y))\" text-anchor=\"\(anchor)\">\(text)</text>\n"
        }
        var out = "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 \(place(width)) \(place(height))\""
        out += " role=\"img\" aria-label=\"\(title.escapedForHTML)\">\n"
        for value in TrainingChart.ticks(values) {
            out += across("grid", y(value)) + text(left - 6, y(value) + 4, "end", Format.significant(value))
        }
        for step in TrainingChart.ticks(steps) where step == step.rounded() {
            out += "<line class=\"axis\" x1=\"\(place(x(step)))\" x2=\"\(place(x(step)))\""
            out += " y1=\"\(place(bottom))\" y2=\"\(place(bottom + 4))\"/>"
            out += text(x(step), bottom + 18, "middle", Format.fixed(step, 0))
        }
        out += across("axis", bottom)
        for (index, line) in lines.enumerated() {
            func polyline(_ points: [(step: Double, value: Double)], _ kind: String, _ more: String = "") {
                let places = points.map { "\(place(x($0.step))),\(place(y($0.value)))" }.joined(separator: " ")
                out += "<polyline class=\"\(kind) line\(index)\"\(more) points=\"\(places)\"/>\n"
            }
            let shown = TrainingChart.thinned(line.points)
            let isSmoothed = isNoisy && line.points.count >= TrainingChart.pointsToSmooth
            let numbers = shown.map { "\(Format.fixed($0.step, 0)) \(Format.significant($0.value))" }.joined(separator: ",")
            let data = " data-name=\"\(line.name.escapedForHTML)\" data-numbers=\"\(numbers)\""
            polyline(shown, isSmoothed ? "seen light" : "seen", data)
            if isSmoothed { polyline(TrainingChart.thinned(TrainingChart.smoothed(line.points)), "smooth") }
            if let only = shown.first, shown.count == 1 {
                out += "<circle class=\"line\(index)\" cx=\"\(place(x(only.step)))\" cy=\"\(place(y(only.value)))\" r=\"3\"/>\n"
            }
        }
        return out + "<line class=\"mark\" x1=\"0\" x2=\"0\" y1=\"\(place(top))\" y2=\"\(place(bottom))\"/>\n</svg>\n"
    }
}

extension String {
    /// As text and within attributes of HTML and XML; characters that neither can hold are replaced.
    var escapedForHTML: String {
        var out = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "'": out += "&#39;"
            case "\t", "\n": out.unicodeScalars.append(scalar)
            case _ where scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value) || scalar.value & 0xFFFE == 0xFFFE:
                out += "\u{FFFD}"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
