public import TensorFormats

extension RetentionPolicy {
    /// As a store keeps it; what is not set is left out.
    public var json: JSONValue {
        var members: [JSONValue.Member] = []
        func put(_ key: String, _ value: JSONValue?) { if let value { members.append(.init(key: key, value: value)) } }
        put("keep_last", keepLast.map { .unsigned(UInt64($0)) })
        put("keep_every", keepEvery.map { .unsigned($0) })
        put("keep_tags", keepTags.isEmpty ? nil : .array(keepTags.map { .string($0) }))
        put("keep_best", keepBest.isEmpty ? nil : .array(keepBest.map(\.json)))
        put("keep_by_worth", keepByWorth.map { .unsigned(UInt64($0)) })
        put("budget_bytes", budget.map { .unsigned($0) })
        switch worth {
        case .gap(let probe, let leastGap):
            put("probe", .string(probe))
            put("least_gap", .double(leastGap))
        case .distance: put("by_distance", .bool(true))
        case nil: break
        }
        put("strong", strong.map { .string($0) })
        put("least_age_seconds", leastAge.map { .unsigned($0) })
        put("optimizer_keep", optimizerKeep.map { .unsigned(UInt64($0)) })
        put("includes_tagged", includesTagged ? .bool(true) : nil)
        return .object(members)
    }

    /// Reads what `json` gives.
    ///
    /// - Throws: `.incompatible` for a rule that this version does not know: it would drop what that rule keeps.
    public init(_ json: JSONValue, what: String) throws(StoreError) {
        self.init()
        guard let members = json.members else { throw StoreError(.damaged, "\(what): no JSON object") }
        var probe: String?
        var leastGap = 0.02
        for member in members {
            let value = member.value
            func count() throws(StoreError) -> Int {
                guard let number = value.unsigned, let count = Int(exactly: number) else { throw bad() }
                return count
            }
            func bad() -> StoreError { StoreError(.damaged, "\(what): \(member.key): \(value.text)") }
            switch member.key {
            case "keep_last": keepLast = try count()
            case "keep_every":
                guard let steps = value.unsigned else { throw bad() }
                keepEvery = steps
            case "keep_tags":
                guard let tags = value.array?.map(\.string), !tags.contains(nil) else { throw bad() }
                keepTags = tags.compactMap { $0 }
            case "keep_best":
                guard let all = value.array?.map(Best.init(json:)), !all.contains(nil) else { throw bad() }
                keepBest = all.compactMap { $0 }
            case "keep_by_worth": keepByWorth = try count()
            case "budget_bytes":
                guard let bytes = value.unsigned else { throw bad() }
                budget = bytes
            case "probe":
                guard let name = value.string else { throw bad() }
                probe = name
            case "least_gap":
                guard let gap = value.double else { throw bad() }
                leastGap = gap
            case "by_distance": worth = .distance
            case "strong":
                guard let ref = value.string else { throw bad() }
                strong = ref
            case "least_age_seconds":
                guard let seconds = value.unsigned else { throw bad() }
                leastAge = seconds
            case "optimizer_keep": optimizerKeep = try count()
            case "includes_tagged": includesTagged = value == .bool(true)
            default: throw StoreError(.incompatible, "\(what): rule \"\(member.key)\" is not known here", hint: "use a newer ckpt")
            }
        }
        if let probe { worth = .gap(probe: probe, leastGap: leastGap) }
        try check()
    }
}

extension RetentionPolicy.Best {
    fileprivate var json: JSONValue {
        .object([
            .init(key: "metric", value: .string(metric)), .init(key: "count", value: .unsigned(UInt64(count))),
            .init(key: "order", value: .string(isLowest ? "min" : "max")),
        ])
    }

    fileprivate init?(json: JSONValue) {
        guard let metric = json["metric"]?.string, let count = json["count"]?.unsigned.flatMap({ Int(exactly: $0) }),
            let order = json["order"]?.string, order == "min" || order == "max"
        else { return nil }
        self.init(metric: metric, count: count, isLowest: order == "min")
    }
}
