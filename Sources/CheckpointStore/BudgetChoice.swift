/// The set of snapshots that is worth most and takes no more than a number of packed bytes.
///
/// Costs are not additive, since snapshots share blocks and are packed against each other, so each is taken anew at every pick. Of
/// greedy by worth per byte, greedy by worth, and with few candidates the same begun with each of them, the best is taken: the better
/// of ratio-greedy and the best single one is within (1 - 1/e) / 2 of the best set where costs are additive (Khuller, Moss and Naor
/// 1999).
struct BudgetChoice {
    struct Candidate {
        var id: ContentID
        /// All that it stands in.
        var runs: Set<String>
    }

    let candidates: [Candidate]
    /// By run.
    let worths: [String: SnapshotWorth]
    /// What stays anyway, by run: it covers what candidates would add.
    let kept: [String: [ContentID]]

    /// Candidates with which every beginning is tried.
    private static let few = 20

    /// - Parameters:
    ///   - space: of the candidates.
    ///   - room: packed bytes.
    /// - Complexity: O(candidates^2 * (blocks + samples)), with few candidates that many times more.
    func choose(_ space: inout SnapshotSpace, room: UInt64) -> [Candidate] {
        var best: [Candidate] = []
        var bestWorth = -1.0
        let beginnings = [nil] + (candidates.count <= BudgetChoice.few ? candidates.indices.map { Optional($0) } : [])
        for beginning in beginnings {
            for isByRatio in [true, false] {
                let (picked, worth) = greedy(&space, room, from: beginning, isByRatio: isByRatio)
                if worth > bestWorth { (best, bestWorth) = (picked, worth) }
            }
        }
        return best
    }

    private func greedy(
        _ space: inout SnapshotSpace, _ room: UInt64, from beginning: Int?, isByRatio: Bool
    ) -> (picked: [Candidate], worth: Double) {
        var covers = worths.mapValues { SnapshotWorth.Cover($0) }
        for (run, ids) in kept {
            for id in ids { covers[run]?.add(id) }
        }
        space.removeAll()
        var left = room
        var open = candidates
        var picked: [Candidate] = []
        func take(_ index: Int, cost: UInt64) {
            let candidate = open.remove(at: index)
            space.add(candidate.id)
            for run in candidate.runs { covers[run]?.add(candidate.id) }
            left -= cost
            picked.append(candidate)
        }
        if let beginning {
            let cost = space.cost(of: candidates[beginning].id)
            guard cost <= left else { return ([], -1) }
            take(beginning, cost: cost)
        }
        while true {
            var best: (index: Int, cost: UInt64, score: Double)?
            for (index, candidate) in open.enumerated() {
                let marginal = candidate.runs.reduce(0) { $0 + (covers[$1]?.marginal(candidate.id) ?? 0) }
                guard marginal > 0 else { continue }
                let cost = space.cost(of: candidate.id)
                guard cost <= left else { continue }
                let score = isByRatio ? marginal / Double(max(1, cost)) : marginal
                // Of equals the later one.
                if best.map({ score >= $0.score }) ?? true { best = (index, cost, score) }
            }
            guard let best else { break }
            take(best.index, cost: best.cost)
        }
        return (picked, covers.values.reduce(0) { $0 + $1.value })
    }
}
