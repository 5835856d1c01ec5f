import CheckpointStore

/// Where figures come from, in words.
enum Provenance {
    /// Nil for what this program computed on this kind of device itself.
    static func foreign(_ record: EntropyRecord) -> String? {
        let provenance = record.provenance
        return provenance["program"] == "ckpt" && provenance["device"] == "cpu" ? nil : words(provenance)
    }

    /// `transformers on cuda`
    static func words(_ provenance: [String: String]) -> String {
        let program = provenance["program"] ?? "an unnamed program"
        return provenance["device"].map { "\(program) on \($0)" } ?? program
    }

    /// Says on stderr that figures in use come from elsewhere.
    static func note(_ figures: String, _ record: EntropyRecord?) {
        guard let words = record.flatMap(foreign) else { return }
        Console.error(Console.printable("ckpt: note: \(figures) come from \(words)"))
    }
}
