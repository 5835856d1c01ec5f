import CheckpointDiff

/// A diff drawn with the characters of a terminal.
struct DiffPlot {
    private let delta: CheckpointDelta
    private let rows: [DeltaGroup]

    init(_ delta: CheckpointDelta, _ rows: [DeltaGroup]) {
        self.delta = delta
        self.rows = rows
    }

    private static let shownRows = 30

    /// How far each row moved, and how many words moved how far.
    var text: String {
        var parts: [String] = []
        let shown = rows.prefix(DiffPlot.shownRows)
        if !shown.isEmpty {
            parts.append(
                "relative L2\n" + DiffPlot.bars(shown.map { ($0.name, $0.delta.relativeL2, Format.significant($0.delta.relativeL2)) }, width: Console.width))
        }
        var total: Movement?
        for movement in delta.compared.compactMap(\.movement) {
            if total == nil { total = movement } else { total!.add(movement) }
        }
        if let total {
            let pairs = total.ulpCounts.reduce(0, +)
            let lines = (0...total.lastClass).map { index -> (String, Double, String) in
                let range = Movement.distances(index)
                let name = index < 2 ? "\(index)" : index > 20 ? "from 2^\(index - 1)" : "\(range.lowerBound) to \(range.upperBound)"
                return (name, Double(total.ulpCounts[index]), Format.percent(total.ulpCounts[index], of: pairs))
            }
            parts.append("words by distance in ulps\n" + DiffPlot.bars(lines, width: Console.width))
        }
        return parts.joined(separator: "\n\n")
    }

    private static let eighths = [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"]

    /// A bar a line, the longest across what names and numbers leave of the width.
    static func bars(_ lines: [(name: String, value: Double, number: String)], width: Int?) -> String {
        let names = lines.map { Console.printable($0.name) }
        let nameWidth = min(names.map(\.count).max() ?? 0, 40)
        let numberWidth = lines.map(\.number.count).max() ?? 0
        let room = max(10, (width ?? 100) - nameWidth - numberWidth - 4)
        let most = lines.map(\.value).filter(\.isFinite).max() ?? 0
        return zip(names, lines).map { name, line in
            let shownName = name.count <= nameWidth ? name : "…" + name.suffix(nameWidth - 1)
            let share = line.value.isFinite && most > 0 ? line.value / most : line.value.isFinite ? 0 : 1
            let units = Int((share * Double(room) * 8).rounded())
            let bar = String(repeating: "█", count: units / 8) + (units % 8 > 0 ? eighths[units % 8] : "")
            let pad = String(repeating: " ", count: nameWidth - shownName.count)
            let numberPad = String(repeating: " ", count: numberWidth - line.number.count)
            return "\(shownName)\(pad)  \(numberPad)\(line.number)  \(bar)"
        }.joined(separator: "\n")
    }

    private static let levels = Array("▁▂▃▄▅▆▇█")

    /// A character a value, from zero to the largest.
    static func sparkline(_ values: [Double]) -> String {
        let most = values.filter(\.isFinite).max() ?? 0
        return String(
            values.map { value in
                guard most > 0, value.isFinite else { return value.isFinite ? levels[0] : levels[7] }
                return levels[min(7, Int(value / most * 8))]
            })
    }
}
