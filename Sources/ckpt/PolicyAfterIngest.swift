import CheckpointStore

/// Applies the policy that a store keeps for a run, once something has come into it.
struct PolicyAfterIngest {
    let store: Store
    let isJSON: Bool

    /// What is wrong with the policy is told, and keeps nothing from being taken in.
    func apply(to run: String) {
        do {
            guard let policy = try store.policy(of: run) else { return }
            let pruner = Pruner(store: store, limits: ScoringLimits(maxLength: nil, threads: nil), isJSON: isJSON)
            let outcome = try pruner.prune(policy, [run])
            for warning in outcome.plan.warnings { Console.error(Console.printable("ckpt: note: \(warning)")) }
            guard !outcome.plan.dropped.isEmpty || !outcome.plan.optimizers.isEmpty else { return }
            if isJSON {
                guard case .object(let members) = Pruner.json(outcome) else { return }
                Console.print(JSONOutput.object([("message_type", "policy"), ("run", .string(run))] + members).text)
            } else {
                let gone = outcome.plan.dropped.map(\.ref).joined(separator: ", ")
                Console.print("policy of \(run): \(gone.isEmpty ? "" : "dropped \(gone); ")freed \(Format.bytes(outcome.result?.freedBytes ?? 0))")
            }
        } catch {
            Console.error(Console.printable("ckpt: note: the policy of \(run) was not applied: \(error)"))
        }
    }
}
