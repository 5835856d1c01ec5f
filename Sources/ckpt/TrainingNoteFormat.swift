import CheckpointStore
import TensorFormats

/// What a snapshot that `ckpt train` wrote says of how it was made, in short.
enum TrainingNoteFormat {
    /// None where it says nothing.
    static func lines(_ sidecars: Sidecars) -> [String] {
        guard let bytes = try? sidecars.contents("ckpt_training.json"), let note = try? JSONValue.parse(bytes, path: "ckpt_training.json"),
            let settings = note["settings"], let plan = settings["plan"]
        else { return [] }
        func short(_ value: JSONValue?) -> String? { value?.string.map { String($0.prefix(12)) } }
        var parts = ["\(plan["preset"]?.string ?? "?")"]
        if let branch = note["branch"]?.string, branch == "weak" { parts.append("the weak branch") }
        if let strong = short(note["round_strong"]) { parts.append("strong \(strong)") }
        let weaks = (note["round_weak"]?.array ?? []).compactMap(short)
        if !weaks.isEmpty { parts.append("weak \(weaks.joined(separator: ", "))") }
        if let lambda = plan["lambda"]?.double { parts.append("lambda \(Format.significant(lambda))") }
        if let data = short(settings["data"]) { parts.append("data \(data)") }
        if let seed = plan["seed"]?.unsigned { parts.append("seed \(seed)") }
        var lines = ["trained   \(parts.joined(separator: ", "))"]
        let metrics = (note["metrics"]?.members ?? []).compactMap { member in
            member.value.double.map { "\(member.key) \(Format.fixed($0, 4))" }
        }
        if !metrics.isEmpty { lines.append("metrics   \(metrics.joined(separator: ", "))") }
        return lines
    }
}
