import CheckpointReports
import CheckpointStore

/// Applies the policy that a store keeps for a run, once something has come into it.
struct PolicyAfterIngest {
    let store: Store
    let isJSON: Bool

    /// What is wrong with the policy is told, and keeps nothing from being taken in.
    ///
    /// - Parameter spared: snapshots that are left whole, and why.
    func apply(to run: String, sparing spared: [ContentID: String] = [:]) {
        do {
            guard let policy = try store.policy(of: run) else { return }
            let pruner = Pruner(store: store, limits: ScoringLimits(maxLength: nil, threads: nil), isJSON: isJSON)
            let outcome = try pruner.prune(policy, [run], sparing: spared)
            for warning in outcome.warnings { Console.error(Console.printable("ckpt: note: \(warning)")) }
            guard !outcome.plan.dropped.isEmpty || !outcome.plan.optimizers.isEmpty else { return }
            if isJSON {
                guard case .object(let members) = outcome.json else { return }
                Console.print(JSONOutput.object([("message_type", "policy"), ("run", .string(run))] + members).text)
            } else {
                let gone = outcome.plan.dropped.map(\.ref)
                let trimmed = outcome.plan.optimizers.map(\.ref)
                var done = gone.isEmpty ? [] : ["dropped \(gone.joined(separator: ", "))"]
                if !trimmed.isEmpty { done.append("dropped the optimizer of \(trimmed.joined(separator: ", "))") }
                Console.print("policy of \(run): \(done.joined(separator: ", ")); freed \(Format.bytes(outcome.result?.freedBytes ?? 0))")
            }
        } catch {
            Console.error(Console.printable("ckpt: note: the policy of \(run) was not applied: \(error)"))
        }
    }
}
