import CheckpointStore
import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Bits of every page of a store's data file, flipped one at a time: `verify` names each that something depends on, passes over the
/// others, and survives all.
@Suite struct StoreBitFlipTests {
    private static let flipsOfAPage = runsSlowTests ? 400 : 16

    /// Read by nothing.
    private static let harmless: Set<PageMap.Role?> = [nil, .pagePad, .treePad, .overflowPad, .metaMap]
    /// Of these some are harmless: a key that separates the same pages still, a time of freeing that keeps its place, an unused word of a
    /// tree's header, what the older meta page says of a commit that is past.
    private static let either: Set<PageMap.Role?> = [.branchKey, .freeKey, .metaMainTree, .otherMeta]

    /// A store with everything in it.
    private static func makeStore() throws -> StoreFixture {
        let fixture = try StoreFixture()
        var training = FineTune(tensors: 2)
        for step in 1...5 as ClosedRange<UInt64> {
            try fixture.ingest(training.next(), step: step) { $0.makesImage = false }
        }
        let store = fixture.store
        let probe = try ProbeFixture.random(seed: 1, samples: 20)
        let key = EntropyKey(snapshot: try store.snapshot("r@4").id, probe: try store.addProbe(probe, name: "p"))
        try store.beginEntropyRecord(key, columns: [.entropy, .nll], provenance: [:])
        try store.appendOutputs(ProbeFixture.outputs(probe, [.entropy, .nll], seed: 2), to: key)
        try store.tag("r@4", as: "good")
        try store.setMetric("loss", 1.5, of: "r@4")
        var policy = RetentionPolicy()
        policy.keepLast = 3
        try store.savePolicy(policy, for: nil)
        try store.remove("r@2")
        try fixture.expectWhole()
        return fixture
    }

    @Test func everyPage() throws {
        let fixture = try StoreBitFlipTests.makeStore()
        // A copy that nothing holds open: LMDB would know its tables already.
        let copy = fixture.path("copy")
        try FileManager.default.copyItem(atPath: fixture.store.path, toPath: copy)
        let path = copy + "/gen-1/data.mdb"
        let bytes = try FileTree.bytes(path)
        var roles = [PageMap.Role?](repeating: nil, count: bytes.count)
        for (role, ranges) in PageMap(bytes).roles {
            for range in ranges { for byte in range { roles[byte] = role } }
        }
        let descriptor = open(path, O_RDWR)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        let seed = UInt64.random(in: 0..<1_000_000)
        print("StoreBitFlipTests: seed \(seed), \(bytes.count / 4096) pages")
        var random = SeededBytes(seed)
        var (noticed, harmless) = (0, 0)
        for page in 0..<(bytes.count / 4096) {
            for _ in 0..<StoreBitFlipTests.flipsOfAPage {
                let byte = 4096 * page + Int.random(in: 0..<4096, using: &random)
                var flipped = bytes[byte] ^ 1 << UInt8.random(in: 0..<8, using: &random)
                pwrite(descriptor, &flipped, 1, off_t(byte))
                let problems: [String]
                do {
                    problems = try Store.verify(copy, depth: .full).problems.map(\.description)
                } catch {
                    problems = ["\(error)"]
                }
                var original = bytes[byte]
                pwrite(descriptor, &original, 1, off_t(byte))
                let role = roles[byte]
                let what = "byte \(byte), \(role?.rawValue ?? "in no use"), \(original) for \(flipped), seed \(seed)"
                if StoreBitFlipTests.harmless.contains(role) {
                    #expect(problems == [], "\(what)")
                    harmless += 1
                } else if !StoreBitFlipTests.either.contains(role) {
                    #expect(problems != [], "\(what)")
                    noticed += 1
                }
            }
        }
        print("StoreBitFlipTests: \(noticed) flips found, \(harmless) harmless")
        #expect(noticed > 300 && harmless > 100)
        #expect(try Store.verify(copy, depth: .full).problems.isEmpty)
    }
}
