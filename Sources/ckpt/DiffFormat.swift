import CheckpointDiff
import CheckpointStore
import TensorFormats

/// A diff as text and as JSON (format-spec/diff-json.md).
struct DiffFormat {
    private let delta: CheckpointDelta
    private let rows: [DeltaGroup]
    private let grouping: DiffGrouping
    private let limit: Int
    private let spectrum: Int?
    private let norms: Bool
    private let names: RowNames
    private let shown: ArraySlice<DeltaGroup>

    /// Tensors of which rows and columns are shown in text.
    private static let detailed = 3

    init(
        _ delta: CheckpointDelta, _ rows: [DeltaGroup], _ grouping: DiffGrouping, limit: Int, spectrum: Int?, norms: Bool, names: RowNames
    ) {
        self.delta = delta
        self.rows = rows
        self.grouping = grouping
        self.limit = limit
        self.spectrum = spectrum
        self.norms = norms
        self.names = names
        shown = limit == 0 ? rows[...] : rows.prefix(limit)
    }

    /// All tensors of the weights, in the order of the file, as JSON: beside an optimizer's state, whose numbers are of other sizes, they would not be
    /// seen. All there are where there are no weights.
    static func everything(_ delta: CheckpointDelta, _ spectrum: Int?, _ names: RowNames) -> JSONOutput {
        var weights = delta
        weights.compared.removeAll { $0.part != .weights }
        weights.identical.removeAll { $0.part != .weights }
        weights.mismatched.removeAll { ($0.first ?? $0.second)?.part != .weights }
        if weights.compared.isEmpty, weights.identical.isEmpty, weights.mismatched.isEmpty { weights = delta }
        return DiffFormat(weights, weights.groups(by: .tensor), .tensor, limit: 0, spectrum: spectrum, norms: false, names: names).json
    }

    /// All compared tensors as one.
    private var total: WeightDelta? {
        guard var sum = delta.compared.first else { return nil }
        for other in delta.compared.dropFirst() { sum.add(other) }
        return sum
    }

    // MARK: Text

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
            if var total, rows.count > 1 {
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
        if let nonfinite = total?.nonfinite, nonfinite > 0 { text += "; \(nonfinite) words are NaN or infinite" }
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

    // MARK: JSON

    var json: JSONOutput {
        [
            "by": .string(grouping.rawValue), "rows": .array(shown.map(json)), "row_count": .int(rows.count),
            "total": total.map { .object(DiffFormat.measures($0)) } ?? .null,
            "identical": .int(delta.identical.count),
            "mismatched": .array(
                delta.mismatched.map { mismatch in
                    [
                        "name": .string(mismatch.name), "reason": .string(mismatch.reason.rawValue),
                        "first": json(mismatch.first), "second": json(mismatch.second),
                    ]
                }),
            "different": .bool(delta.isDifferent),
        ]
    }

    private func json(_ row: DeltaGroup) -> JSONOutput {
        var members: [(String, JSONOutput)] = [("name", .string(row.name))]
        if grouping == .tensor {
            members += [
                ("file", .string(row.delta.file)), ("part", .string("\(row.delta.part)")),
                ("layer", .string(TensorGroup.layer(row.delta.name))), ("kind", .string(TensorGroup.kind(row.delta.name))),
                ("dtype", .string(row.delta.dtype.name)), ("shape", .shape(row.delta.shape)),
            ]
        } else {
            members.append(("tensors", .int(row.tensors)))
        }
        members += DiffFormat.measures(row.delta)
        if let rows = row.delta.movement?.rows { members.append(("rows", axis(rows) { names.token($0, of: row.delta) })) }
        if let columns = row.delta.movement?.columns { members.append(("columns", axis(columns) { _ in nil })) }
        if let heads = names.headNorms(row.delta) { members.append(("heads", .array(heads.map { .double($0) }))) }
        if let found = row.delta.spectrum {
            members.append((
                "spectrum",
                [
                    "values": .array(found.values.map { .double($0) }), "stable_rank": .double(found.stableRank),
                    "energy": .double(found.energy(found.values.count)), "settled": .bool(found.isSettled),
                ]
            ))
        }
        return .object(members)
    }

    private func axis(_ norms: [Double], _ name: (Int) -> String?) -> JSONOutput {
        let summary = AxisSummary(norms)
        var members: [(String, JSONOutput)] = [
            ("count", .int(norms.count)),
            (
                "top",
                .array(
                    summary.top.map { place in
                        var members: [(String, JSONOutput)] = [("index", .int(place.index)), ("norm", .double(place.norm))]
                        if let name = name(place.index) { members.append(("token", .string(name))) }
                        return .object(members)
                    })
            ),
            ("profile", .array(summary.profile.map { .double($0) })),
        ]
        if self.norms { members.append(("norms", .array(norms.map { .double($0) }))) }
        return .object(members)
    }

    private static func measures(_ sums: WeightDelta) -> [(String, JSONOutput)] {
        var members: [(String, JSONOutput)] = [
            ("changed", .unsigned(sums.changed)), ("words", .unsigned(sums.words)), ("first_l2", .double(sums.sumFirst.squareRoot())),
            ("second_l2", .double(sums.sumSecond.squareRoot())), ("delta_l2", .double(sums.deltaL2)),
            ("relative_l2", .double(sums.relativeL2)), ("cosine", sums.cosine.map { .double($0) } ?? .null),
            ("max_abs", .double(sums.maxAbs)), ("sign_flips", .unsigned(sums.signFlips)),
            ("nonfinite", .unsigned(sums.nonfinite)),
        ]
        if let movement = sums.movement {
            members += [
                ("mean_ulps", .double(movement.meanUlps)),
                ("ulp_histogram", .array(movement.ulpCounts.prefix(movement.lastClass + 1).map { .unsigned($0) })),
            ]
        }
        return members
    }

    private func json(_ tensor: TensorEntry?) -> JSONOutput {
        guard let tensor else { return .null }
        return ["dtype": .string(tensor.dtype.name), "shape": .shape(tensor.shape)]
    }
}
