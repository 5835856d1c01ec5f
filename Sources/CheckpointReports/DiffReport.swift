package import CheckpointDiff
internal import CheckpointStore
internal import TensorFormats

/// A diff as JSON (format-spec/diff-json.md).
package struct DiffReport {
    private let delta: CheckpointDelta
    private let rows: [DeltaGroup]
    private let grouping: DiffGrouping
    private let limit: Int
    private let norms: Bool
    private let names: RowNames

    /// - Parameters:
    ///   - limit: rows that are shown; 0: all.
    ///   - norms: with those of all rows and columns.
    package init(_ delta: CheckpointDelta, _ rows: [DeltaGroup], _ grouping: DiffGrouping, limit: Int = 0, norms: Bool = false, names: RowNames) {
        self.delta = delta
        self.rows = rows
        self.grouping = grouping
        self.limit = limit
        self.norms = norms
        self.names = names
    }

    /// All tensors of the weights, in the order of the file, as JSON: beside an optimizer's state, whose numbers are of other sizes, they would not be
    /// seen. All there are where there are no weights.
    package static func everything(_ delta: CheckpointDelta, _ names: RowNames) -> JSONOutput {
        var weights = delta
        weights.compared.removeAll { $0.part != .weights }
        weights.identical.removeAll { $0.part != .weights }
        weights.mismatched.removeAll { ($0.first ?? $0.second)?.part != .weights }
        if weights.compared.isEmpty, weights.identical.isEmpty, weights.mismatched.isEmpty { weights = delta }
        return DiffReport(weights, weights.groups(by: .tensor), .tensor, names: names).json
    }

    package var json: JSONOutput {
        [
            "by": .string(grouping.rawValue), "rows": .array((limit == 0 ? rows[...] : rows.prefix(limit)).map(json)), "row_count": .int(rows.count),
            "total": delta.total.map { .object(DiffReport.measures($0)) } ?? .null,
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
        members += DiffReport.measures(row.delta)
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

extension CheckpointDelta {
    /// All compared tensors as one.
    package var total: WeightDelta? {
        guard var sum = compared.first else { return nil }
        for other in compared.dropFirst() { sum.add(other) }
        return sum
    }
}
