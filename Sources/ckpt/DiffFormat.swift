import CheckpointDiff
import CheckpointReports
import CheckpointStore
import TensorFormats

/// A diff as text.
struct DiffFormat {
    private let delta: CheckpointDelta
    private let rows: [DeltaGroup]
    private let grouping: DiffGrouping
    private let limit: Int
    private let spectrum: Int?
    private let names: RowNames
    private let shown: ArraySlice<DeltaGroup>

    /// Tensors of which rows and columns are shown in text.
    private static let detailed = 3

    init(
        _ delta: CheckpointDelta, _ rows: [DeltaGroup], _ grouping: DiffGrouping, limit: Int, spectrum: Int?, names: RowNames
    ) {
        self.delta = delta
        self.rows = rows
        self.grouping = grouping
        self.limit = limit
        self.spectrum = spectrum
        self.names = names
        shown = limit == 0 ? rows[...] : rows.prefix(limit)
    }

    private struct Measure {
        var column: TextTable.Column
        var cell: (WeightDelta) -> String

        init(_ title: String, _ cell: @escaping (WeightDelta) -> String) {
            column = .init(title: title, isNumber: true)
            self.cell = cell
        }
    }

    private var measures: [Measure] {
        var measures = [
            Measure("CHANGED") { Format.percent($0.changed, of: $0.words) }, Measure("DELTA L2") { Format.significant($0.deltaL2) },
            Measure("RELATIVE") { Format.significant($0.relativeL2) }, Measure("COSINE") { $0.cosine.map { Format.fixed($0, 6) }.map { $0 == "-0.000000" ? "0.000000" : $0 } ?? "-" },
            Measure("MAX") { Format.significant($0.maxAbs) }, Measure("FLIPS") { "\($0.signFlips)" },
        ]
        if delta.compared.contains(where: { $0.nonfinite > 0 }) { measures.append(Measure("NAN, INF") { "\($0.nonfinite)" }) }
        if delta.compared.contains(where: { $0.movement != nil }) {
            measures.append(Measure("ULPS") { $0.movement.map { Format.significant($0.meanUlps) } ?? "-" })
        }
        if let spectrum, grouping == .tensor {
            measures += [
                Measure("SIGMA 1") { $0.spectrum?.values.first.map { Format.significant($0) } ?? "-" },
                Measure("RANK") { $0.spectrum.map { Format.significant($0.stableRank) } ?? "-" },
                Measure("TOP \(spectrum)") { $0.spectrum.map { Format.fixed(100 * $0.energy(spectrum), 1) + " %" } ?? "-" },
            ]
        }
        return measures
    }

    var text: String {
        var lines: [String] = []
        if !shown.isEmpty {
            let measures = measures
            var table = TextTable(
                [
                    .init(title: grouping == .tensor ? "TENSOR" : grouping == .layer ? "LAYER" : "KIND", shrinks: true),
                    .init(title: grouping == .tensor ? "SHAPE" : "TENSORS", shrinks: true),
                ] + measures.map(\.column))
            for row in shown { table.add([row.name, extent(row)] + measures.map { $0.cell(row.delta) }) }
            if var total = delta.total, rows.count > 1 {
                total.spectrum = nil
                table.add(["all compared", "\(delta.compared.count)"] + measures.map { $0.cell(total) })
            }
            lines.append(table.text(width: Console.width))
        }
        if shown.count < rows.count { lines.append("\(rows.count - shown.count) more \(rows.count - shown.count == 1 ? "row" : "rows") (--limit 0 shows all)") }
        if grouping == .tensor, shown.count <= DiffFormat.detailed {
            let found = shown.flatMap { details($0.delta) }
            if !found.isEmpty { lines += found + [""] }
        }
        let mismatched = limit == 0 ? delta.mismatched[...] : delta.mismatched.prefix(limit)
        for mismatch in mismatched { lines.append(describe(mismatch)) }
        if mismatched.count < delta.mismatched.count {
            lines.append("\(delta.mismatched.count - mismatched.count) more without a counterpart (--limit 0 shows all)")
        }
        lines.append(summary)
        return lines.joined(separator: "\n")
    }

    private var summary: String {
        var text = "\(Format.count(delta.compared.count, "tensor")) compared"
        if !delta.identical.isEmpty { text += ", \(delta.identical.count) identical (not read)" }
        if !delta.mismatched.isEmpty { text += ", \(delta.mismatched.count) without a counterpart" }
        if let nonfinite = delta.total?.nonfinite, nonfinite > 0 { text += "; \(nonfinite) words are NaN or infinite" }
        let unsettled = delta.compared.count { $0.spectrum?.isSettled == false }
        if unsettled > 0 { text += "; singular values of \(Format.count(unsettled, "tensor")) are too low: they converge too slowly" }
        return delta.isDifferent ? text : text + "; no difference"
    }

    private func extent(_ row: DeltaGroup) -> String {
        guard grouping == .tensor else { return "\(row.tensors)" }
        return "\(row.delta.dtype.name)[\(row.delta.shape.map(String.init).joined(separator: ","))]"
    }

    /// What moved most in one tensor.
    private func details(_ delta: WeightDelta) -> [String] {
        guard let movement = delta.movement, delta.changed > 0 else { return [] }
        var lines: [String] = []
        func line(_ what: String, _ norms: [Double], _ name: (Int) -> String) {
            let top = AxisSummary(norms, top: 6).top.map { "\(name($0.index)) \(Format.significant($0.norm))" }
            guard !top.isEmpty else { return }
            lines.append("  \(what)  \(DiffPlot.sparkline(AxisSummary.profile(norms, stretches: 32)))  most: \(Console.printable(top.joined(separator: ", ")))")
        }
        if let rows = movement.rows {
            line("rows   ", rows) { row in names.token(row, of: delta).map { "\(row) \"\($0)\"" } ?? "\(row)" }
        }
        if let columns = movement.columns { line("columns", columns) { "\($0)" } }
        if let heads = names.headNorms(delta) { line("heads  ", heads) { "\($0)" } }
        if let values = delta.spectrum?.values, !values.isEmpty {
            lines.append("  sigma    \(values.map { Format.significant($0) }.joined(separator: " "))")
        }
        return lines.isEmpty ? [] : ["", Console.printable(delta.name)] + lines
    }

    private func describe(_ mismatch: TensorMismatch) -> String {
        func form(_ tensor: TensorEntry?) -> String {
            tensor.map { "\($0.dtype.name)[\($0.shape.map(String.init).joined(separator: ","))]" } ?? ""
        }
        let name = Console.printable(mismatch.name)
        switch mismatch.reason {
        case .added: return "added     \(name)  \(form(mismatch.second))"
        case .removed: return "removed   \(name)  \(form(mismatch.first))"
        case .reshaped: return "reshaped  \(name)  \(form(mismatch.first)) -> \(form(mismatch.second))"
        case .retyped: return "retyped   \(name)  \(form(mismatch.first)) -> \(form(mismatch.second))"
        }
    }
}
