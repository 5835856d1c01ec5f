import TensorFormats
import Testing

@Suite struct ZipDirectoryTests {
    typealias Entry = ArchiveBuilder.Entry

    func read(_ builder: ArchiveBuilder) throws -> ZipDirectory {
        try ZipDirectory.read(MemoryBytes(builder.build(), path: "x.zip"))
    }

    @Test func entries() throws {
        var builder = ArchiveBuilder([
            Entry(name: "b/data", data: [1, 2, 3]), Entry(name: "a", data: [], flags: 8),
            Entry(name: "c", data: [9], method: 8),
            Entry(name: "folder/"),
        ])
        builder.comment = Array("a comment with PK\u{5}\u{6} in it".utf8)
        let directory = try read(builder)
        let bytes = builder.build()
        #expect(directory.entries.map(\.name) == ["b/data", "a", "c"])
        #expect(directory.firstName == "b/data")
        let entry = try #require(directory["b/data"])
        #expect(Array(bytes[Int(entry.offset)..<Int(entry.offset + entry.size)]) == [1, 2, 3])
        #expect(directory["c"]?.isStored == false)
        #expect(directory["d"] == nil)
        #expect(try read(ArchiveBuilder([])).entries.isEmpty)
    }

    static let refused: [(String, ArchiveBuilder, FormatError.Code)] = {
        func one(_ entry: Entry) -> ArchiveBuilder { ArchiveBuilder([Entry(name: "first", data: [1, 2]), entry]) }
        var manyPromised = one(Entry(name: "a"))
        manyPromised.statedCount = 7
        var fewPromised = one(Entry(name: "a"))
        fewPromised.statedCount = 1
        var far = one(Entry(name: "a"))
        far.statedDirectoryOffset = 4_000_000_000
        return [
            ("dot dot", one(Entry(name: "a/../b")), .unsafeName),
            ("absolute", one(Entry(name: "/a")), .unsafeName),
            ("NUL", one(Entry(name: "a\0b")), .unsafeName),
            ("empty name", one(Entry(name: "")), .unsafeName),
            ("directory with data", one(Entry(name: "a/", data: [1])), .unsafeName),
            ("the same data twice", one(Entry(name: "first", statedOffset: 0)), .malformed),
            ("twice the name", one(Entry(name: "first")), .malformed),
            ("overlap", one(Entry(name: "a", data: [1], statedOffset: 0, localName: "first")), .malformed),
            (
                "runs into the next",
                ArchiveBuilder([Entry(name: "a", statedSize: 30, localSize: 30), Entry(name: "b")]), .malformed
            ),
            ("runs into the directory", one(Entry(name: "a", statedSize: 300, localSize: 300)), .malformed),
            ("offset past the end", one(Entry(name: "a", statedOffset: 4_000_000_000)), .malformed),
            ("encrypted", one(Entry(name: "a", flags: 1)), .unsupported),
            ("sizes differ", one(Entry(name: "a", data: [1], statedPlainSize: 2)), .malformed),
            ("another local name", one(Entry(name: "a", localName: "b")), .malformed),
            ("another local method", one(Entry(name: "a", localMethod: 8)), .malformed),
            ("another local size", one(Entry(name: "a", localSize: 5)), .malformed),
            ("more entries promised", manyPromised, .malformed),
            ("fewer entries promised", fewPromised, .malformed),
            ("directory past the end", far, .malformed),
        ]
    }()

    @Test(arguments: refused)
    func refuses(name: String, builder: ArchiveBuilder, code: FormatError.Code) throws {
        let error = #expect(throws: FormatError.self) { try read(builder) }
        #expect(error?.code == code, "\(name): \(error?.description ?? "")")
        #expect(error?.description.contains { $0.isNewline || $0 == "\0" } == false)
    }
}
