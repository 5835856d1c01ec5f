import CheckpointDiff
import CheckpointStore
import TensorFormats

/// A diff as text and as JSON.
struct DiffFormat {
    private let delta: CheckpointDelta
    private let rows: [DeltaGroup]
    private let grouping: DiffGrouping
    private let limit: Int
    private let shown: ArraySlice<DeltaGroup>

    init(_ delta: CheckpointDelta, _ rows: [DeltaGroup], _ grouping: DiffGrouping, _ limit: Int) {
        self.delta = delta
        self.rows = rows
        self.grouping = grouping
        self.limit = limit
        shown = limit == 0 ? rows[...] : rows.prefix(limit)
    }

    /// All compared tensors as one.
    private var total: WeightDelta? {
        guard var sum = delta.compared.first else { return nil }
        for other in delta.compared.dropFirst() { sum.add(other) }
        return sum
    }

    var text: String {
        var lines: [String] = []
        if !shown.isEmpty {
            var table = TextTable([
                .init(title: grouping == .tensor ? "TENSOR" : grouping == .layer ? "LAYER" : "KIND", shrinks: true),
                .init(title: grouping == .tensor ? "SHAPE" : "TENSORS", shrinks: true),
                .init(title: "CHANGED", isNumber: true), .init(title: "DELTA L2", isNumber: true),
                .init(title: "RELATIVE", isNumber: true), .init(title: "COSINE", isNumber: true),
                .init(title: "MAX", isNumber: true), .init(title: "FLIPS", isNumber: true),
            ])
            for row in shown { table.add(cells(row)) }
            if let total, rows.count > 1 {
                table.add(cells(DeltaGroup(name: "all compared", tensors: delta.compared.count, delta: total), isTotal: true))
            }
            lines.append(table.text(width: Console.width))
        }
        if shown.count < rows.count { lines.append("\(rows.count - shown.count) more \(rows.count - shown.count == 1 ? "row" : "rows") (--limit 0 shows all)") }
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
        return delta.isDifferent ? text : text + "; no difference"
    }

    private func cells(_ row: DeltaGroup, isTotal: Bool = false) -> [String] {
        let sums = row.delta
        return [
            row.name,
            grouping == .tensor && !isTotal
                ? "\(sums.dtype.name)[\(sums.shape.map(String.init).joined(separator: ","))]" : "\(row.tensors)",
            Format.percent(sums.changed, of: sums.words), Format.significant(sums.deltaL2),
            Format.significant(sums.relativeL2), sums.cosine.map { Format.fixed($0, 6) } ?? "-",
            Format.significant(sums.maxAbs), "\(sums.signFlips)",
        ]
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
                ("dtype", .string(row.delta.dtype.name)), ("shape", .shape(row.delta.shape)),
            ]
        } else {
            members.append(("tensors", .int(row.tensors)))
        }
        return .object(members + DiffFormat.measures(row.delta))
    }

    private static func measures(_ sums: WeightDelta) -> [(String, JSONOutput)] {
        [
            ("changed", .unsigned(sums.changed)), ("words", .unsigned(sums.words)), ("delta_l2", .double(sums.deltaL2)),
            ("relative_l2", .double(sums.relativeL2)), ("cosine", sums.cosine.map { .double($0) } ?? .null),
            ("max_abs", .double(sums.maxAbs)), ("sign_flips", .unsigned(sums.signFlips)),
            ("nonfinite", .unsigned(sums.nonfinite)),
        ]
    }

    private func json(_ tensor: TensorEntry?) -> JSONOutput {
        guard let tensor else { return .null }
        return ["dtype": .string(tensor.dtype.name), "shape": .shape(tensor.shape)]
    }
}
