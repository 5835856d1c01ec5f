import CheckpointStore
import Foundation
import LMDB
import TestSupport
import Testing

/// An empty store in a directory of its own, with room for sources beside it.
struct StoreFixture {
    let directory: TemporaryDirectory
    let store: Store

    init(lockTimeout: Double = 30, depthLimit: UInt8 = 5) throws {
        directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store", depthLimit: depthLimit)
        store = try Store.open(directory.path + "/store", lockTimeout: lockTimeout)
    }

    func path(_ name: String) -> String { directory.path + "/" + name }

    /// Writes `bytes` to `name` and takes it in as `run`@`step`.
    @discardableResult
    func ingest(
        _ bytes: [UInt8], as name: String = "model.safetensors", run: String = "r", step: UInt64 = 0,
        _ change: (inout IngestOptions) -> Void = { _ in }
    ) throws -> IngestResult {
        let file = path("sources/\(UUID().uuidString)/\(name)")
        try FileTree.write(bytes, to: file)
        return try ingest(file, run: run, step: step, change)[0]
    }

    @discardableResult
    func ingest(
        _ path: String, run: String? = nil, step: UInt64? = nil, _ change: (inout IngestOptions) -> Void = { _ in }
    ) throws -> [IngestResult] {
        var options = IngestOptions()
        options.run = run
        options.step = step
        change(&options)
        return try store.ingest(path, options: options)
    }

    /// Changes the bytes of the first record at or after `key` behind the store's back, its checksum left as it was.
    func editRecord(_ table: String, _ key: [UInt8], _ change: (inout [UInt8]) -> Void) throws {
        let environment = try Environment.open(path: store.path + "/gen-1")
        let transaction = try environment.beginWrite()
        let table = try #require(try transaction.table(table))
        var found: (key: [UInt8], value: [UInt8])?
        try transaction.scan(table, from: key) { key, value in
            found = (key.withUnsafeBytes { Array($0) }, value.withUnsafeBytes { Array($0) })
            return false
        }
        var record = try #require(found)
        change(&record.value)
        try transaction.put(table, record.key, record.value)
        try transaction.commit()
    }

    func export(_ ref: String, only: String? = nil) throws -> [String: Data] {
        let target = path("export-" + UUID().uuidString)
        try store.export(ref, to: target, only: only)
        defer { try? FileManager.default.removeItem(atPath: target) }
        return try FileTree.contents(of: target)
    }

    /// Fails unless everything in the store is as it should be.
    func expectWhole(pending: Int = 0, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let report = try Store.verify(store.path, depth: .full)
        #expect(report.problems.map(\.description) == [], sourceLocation: sourceLocation)
        #expect(report.pending == pending, sourceLocation: sourceLocation)
    }

    /// What must not change when an ingest is refused.
    func state() throws -> [String] {
        let stats = try store.stats()
        let history = try store.history().map { "\($0.run)@\($0.step) \($0.id) \($0.hasImage) \($0.tags) \($0.isPinned)" }
        let images = try FileManager.default.contentsOfDirectory(atPath: store.path + "/images").sorted()
        return history + images + ["\(stats.blocks) \(stats.tensors) \(stats.packedBytes) \(stats.uniqueBytes)"]
    }

    /// Runs `body`, which must be refused, and checks that the store is as it was.
    @discardableResult
    func expectRefusal(
        _ code: StoreError.Code, saying words: String..., sourceLocation: SourceLocation = #_sourceLocation,
        _ body: () throws -> Void
    ) throws -> StoreError? {
        let before = try state()
        var refusal: StoreError?
        do {
            try body()
            Issue.record("not refused", sourceLocation: sourceLocation)
        } catch let error as StoreError {
            refusal = error
            #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
            for word in words {
                #expect(error.description.contains(word), "\(error)", sourceLocation: sourceLocation)
            }
            #expect(!error.description.contains("\n"), "one line", sourceLocation: sourceLocation)
        }
        #expect(try state() == before, sourceLocation: sourceLocation)
        try expectWhole(sourceLocation: sourceLocation)
        return refusal
    }

    /// All of a tensor's bytes, side by side, read block by block.
    func bytes(of name: String, in ref: String) throws -> [UInt8] {
        let snapshot = try store.snapshot(ref)
        let entry = try snapshot.tensor(name)
        let reader = try store.contents(ref).makeReader()
        var bytes: [UInt8] = []
        for range in entry.blockRanges { try reader.withBytes(of: entry, range) { bytes += $0 } }
        return bytes
    }
}

/// The store's error that `body` throws, or nil when it throws none.
func storeError(_ body: () throws -> Void) throws -> StoreError? {
    do {
        try body()
        return nil
    } catch let error as StoreError {
        return error
    }
}

/// Long enough after a write for its times to be trusted.
func letFilesSettle() { usleep(60_000) }

enum GoldenFiles {
    static let torch = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Golden/formats/torch")

    static let names: [String] = ((try? FileManager.default.contentsOfDirectory(atPath: torch.path)) ?? [])
        .filter { $0.hasSuffix(".pt") }.sorted()

    /// Those that PyTorch itself can read.
    static let good = names.filter { $0 != "short-storage.pt" }

    static func bytes(_ name: String) throws -> [UInt8] { try FileTree.bytes(torch.appending(path: name).path) }
}
