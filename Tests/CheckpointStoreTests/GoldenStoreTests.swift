import CheckpointStore
import Foundation
import TestSupport
import Testing

/// The stores in `format-spec/golden`, which `tools/reference/golden` makes and the Python reader reads too.
struct GoldenStoreTests {
    static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "format-spec/golden")

    static let expected: Expected? = {
        guard let data = try? Data(contentsOf: directory.appending(path: "expected.json")) else { return nil }
        return try? JSONDecoder().decode(Expected.self, from: data)
    }()

    @Test func expectedIsThere() {
        #expect(Self.expected != nil)
    }

    @Test(arguments: GoldenStoreTests.expected?.stores.keys.sorted() ?? [])
    func wholeStoresVerify(_ name: String) throws {
        try withCopy(of: name) { path, _ in
            let report = try Store.verify(path, depth: .full)
            #expect(report.problems.map(\.description) == [])
            #expect(report.snapshots > 0 && report.blocks > 0)
        }
    }

    @Test(arguments: GoldenStoreTests.expected?.stores.keys.sorted() ?? [])
    func wholeStoresExportEveryFile(_ name: String) throws {
        try expectExports(of: name, #require(Self.expected?.stores[name]))
    }

    @Test(arguments: GoldenStoreTests.expected?.broken.keys.sorted() ?? [])
    func brokenStoresExportWhatIsNotHarmed(_ name: String) throws {
        try expectExports(of: name, Self.expected?.broken[name]?.readable ?? [:])
    }

    @Test(arguments: GoldenStoreTests.expected?.broken.keys.sorted() ?? [])
    func brokenStoresAreNamed(_ name: String) throws {
        let wanted = try #require(Self.expected?.broken[name])
        try withCopy(of: name) { path, _ in
            let said: String
            if wanted.exit == 65 {
                let error = try #require(throws: StoreError.self) { try Store.verify(path, depth: .full) }
                #expect(error.code == .incompatible)
                said = error.description
            } else {
                let report = try Store.verify(path, depth: .full)
                #expect(!report.problems.isEmpty)
                said = report.problems.map(\.description).joined(separator: "\n")
            }
            for word in wanted.words {
                #expect(said.contains(word))
            }
        }
    }

    // MARK: - Support

    private func expectExports(of name: String, _ refs: [String: Expected.Contents]) throws {
        guard !refs.isEmpty else { return }
        try withCopy(of: name) { path, directory in
            let store = try Store.open(path)
            for (index, ref) in refs.keys.sorted().enumerated() {
                let target = "\(directory)/export-\(index)"
                try store.export(ref, to: target)
                let exported = try contents(of: target)
                #expect(exported == refs[ref]?.files, "files of \(ref)")
            }
        }
    }

    struct Expected: Decodable {
        /// Store to ref to what is in it.
        var stores: [String: [String: Contents]]
        var broken: [String: Broken]

        struct Contents: Decodable {
            var files: [File]
        }

        /// `sha256` is nil for an empty directory.
        struct File: Decodable, Equatable {
            var path: String
            var size: Int
            var sha256: String?
        }

        /// What `ckpt verify` exits with and says.
        struct Broken: Decodable {
            var exit: Int
            var words: [String]
            /// What can be read all the same.
            var readable: [String: Contents]?
        }
    }

    /// Calls `body` with the path of a copy that may be written to, and that of an empty directory beside it.
    private func withCopy(of name: String, _ body: (String, String) throws -> Void) throws {
        let temporary = try TemporaryDirectory()
        let path = "\(temporary.path)/store"
        try FileManager.default.copyItem(atPath: Self.directory.appending(path: name).path, toPath: path)
        try withExtendedLifetime(temporary) { try body(path, temporary.path) }
    }

    /// The files and empty directories below `root`, in the order of expected.json.
    private func contents(of root: String) throws -> [Expected.File] {
        var found: [Expected.File] = []
        for path in try FileManager.default.subpathsOfDirectory(atPath: root) {
            let full = "\(root)/\(path)"
            var isDirectory = false
            if let type = try FileManager.default.attributesOfItem(atPath: full)[.type] as? FileAttributeType {
                isDirectory = type == .typeDirectory
            }
            if !isDirectory {
                let data = try Data(contentsOf: URL(filePath: full))
                found.append(Expected.File(path: path, size: data.count, sha256: ContentID.hash(of: [UInt8](data)).description))
            } else if try FileManager.default.contentsOfDirectory(atPath: full).isEmpty {
                found.append(Expected.File(path: path, size: 0, sha256: nil))
            }
        }
        return found.sorted { $0.path.utf8.lexicographicallyPrecedes($1.path.utf8) }
    }
}
