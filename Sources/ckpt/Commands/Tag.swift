import ArgumentParser
import CheckpointReports
import CheckpointStore

struct Tag: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Name a snapshot or give it a metric, remove a name, or list the names.",
        discussion: """
            A metric is a figure that ckpt prune --keep-best can go by, beside those that a trainer wrote itself: ckpt tag
            --metric acc=0.71 sft@500. ckpt show lists them.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The tag; with none, all tags are listed.", completion: .tagOrMeasuredSnapshot)
    var tag: String?
    @Argument(help: "The snapshot it names.", completion: .snapshot)
    var ref: String?
    @Flag(name: .shortAndLong, help: "Remove the tag, or the metric.")
    var delete = false
    @Option(name: .customLong("metric"), help: ArgumentHelp("Give the snapshot a metric; may be repeated.", valueName: "name=value"))
    var metrics: [String] = []
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard metrics.isEmpty else {
            guard tag != nil, ref == nil else { throw ValidationError("ckpt tag --metric NAME=VALUE REF, with one REF and no tag") }
            return
        }
        guard delete ? tag != nil && ref == nil : (tag == nil) == (ref == nil) else {
            throw ValidationError("ckpt tag TAG REF names a snapshot, ckpt tag -d TAG removes a name, ckpt tag lists them")
        }
    }

    func run() throws {
        let store = try options.open()
        if !metrics.isEmpty, let ref = tag { return try setMetrics(store, ref) }
        if let tag, delete {
            try store.removeTag(tag)
            if options.json { Console.print(JSONOutput.object([("removed", .string(tag))]).text) }
            return
        }
        if let tag, let ref {
            try store.tag(ref, as: tag)
            if options.json { Console.print(JSONOutput.object([("tag", .string(tag)), ("ref", .string(ref))]).text) }
            return
        }
        let tags = try store.tags()
        if options.json {
            Console.print(JSONOutput.array(tags.map { ["tag": .string($0.name), "id": .string("\($0.id)")] }).text)
        } else {
            for tag in tags { Console.print("\(tag.name)  \(tag.id.short)") }
        }
    }

    private func setMetrics(_ store: Store, _ ref: String) throws {
        // All of them are looked at first.
        let parsed = try metrics.map { text -> (name: String, value: Double?) in
            if delete { return (text, nil) }
            guard let equals = text.lastIndex(of: "="), let value = Double(text[text.index(after: equals)...]) else {
                throw StoreError(.badInput, "--metric \(text): not NAME=VALUE", hint: "--metric eval_loss=1.25, say")
            }
            return (String(text[..<equals]), value)
        }
        for (name, value) in parsed {
            if let value { try store.setMetric(name, value, of: ref) } else { try store.removeMetric(name, of: ref) }
        }
        if options.json {
            let values = try store.metrics(of: ref).sorted { $0.key < $1.key }
            Console.print(JSONOutput.object([("ref", .string(ref)), ("metrics", .object(values.map { ($0.key, .double($0.value)) }))]).text)
        }
    }
}
