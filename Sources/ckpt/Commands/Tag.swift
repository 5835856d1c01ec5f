import ArgumentParser
import CheckpointStore

struct Tag: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Name a snapshot, remove a name, or list the names.", discussion: ExitStatus.table)

    @Argument(help: "The tag; with none, all tags are listed.")
    var tag: String?
    @Argument(help: "The snapshot it names.")
    var ref: String?
    @Flag(name: .shortAndLong, help: "Remove the tag.")
    var delete = false
    @OptionGroup var options: StoreOptions

    func validate() throws {
        guard delete ? tag != nil && ref == nil : (tag == nil) == (ref == nil) else {
            throw ValidationError("ckpt tag TAG REF names a snapshot, ckpt tag -d TAG removes a name, ckpt tag lists them")
        }
    }

    func run() throws {
        let store = try options.open()
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
}
