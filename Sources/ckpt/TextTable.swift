/// Rows of text in aligned columns that fit the terminal.
struct TextTable {
    struct Column {
        var title: String
        var isNumber = false
        /// May be shortened in the middle when the terminal is narrow.
        var shrinks = false
    }

    private let columns: [Column]
    private var rows: [[String]] = []

    init(_ columns: [Column]) { self.columns = columns }

    mutating func add(_ row: [String]) { rows.append(row.map(Console.printable)) }

    /// - Parameter width: columns of the terminal; nil: as wide as it takes.
    func text(width: Int?) -> String {
        var widths = columns.indices.map { index in
            max(columns[index].title.count, rows.map { $0[index].count }.max() ?? 0)
        }
        if let width {
            var excess = widths.reduce(0, +) + 2 * (columns.count - 1) - width
            for index in columns.indices where columns[index].shrinks && excess > 0 {
                let cut = min(excess, max(0, widths[index] - 12))
                widths[index] -= cut
                excess -= cut
            }
        }
        let lines = ([columns.map(\.title)] + rows).map { row in
            let cells = row.indices.map { index in pad(fit(row[index], widths[index]), widths[index], columns[index].isNumber) }
            var line = cells.joined(separator: "  ")
            while line.hasSuffix(" ") { line.removeLast() }
            return line
        }
        return lines.joined(separator: "\n")
    }

    /// The text, or its two ends when it is too long: tensor names differ at both.
    private func fit(_ text: String, _ width: Int) -> String {
        guard text.count > width else { return text }
        let front = (width - 1) / 2
        return text.prefix(front) + "…" + text.suffix(width - 1 - front)
    }

    private func pad(_ text: String, _ width: Int, _ isNumber: Bool) -> String {
        let space = String(repeating: " ", count: max(0, width - text.count))
        return isNumber ? space + text : text + space
    }
}
