import CheckpointStore
import Foundation
import Synchronization
import TestSupport
import Testing

/// Readers while another process ingests, prunes, re-bases and compacts: what stays reads as it was, what goes is gone, and nothing ever
/// looks damaged.
@Suite struct ReadersDuringPruneTests {
    private struct Wrong: Error { var what: String }

    private static func readInProcess(_ store: Store, _ originals: borrowing Mutex<[UInt64: [UInt8]]>, _ random: inout SystemRandomNumberGenerator) throws {
        guard let entry = try store.history().randomElement(using: &random) else { return }
        let ref = "r@\(entry.step)"
        guard let original = originals.withLock({ $0[entry.step] }) else { throw Wrong(what: "\(ref) was never there") }
        do {
            let contents = try store.contents("\(entry.id)")
            for tensor in contents.tensors {
                var bytes = [UInt8](repeating: 0, count: Int(tensor.byteCount))
                try bytes.withUnsafeMutableBytes { try contents.read(tensor, into: $0) }
                let start = Int(tensor.fileOffset)
                guard bytes.elementsEqual(original[start..<(start + bytes.count)]) else { throw Wrong(what: "\(ref): wrong bytes of \(tensor.name)") }
            }
        } catch let error as StoreError where error.code == .noSuchRef {
            // Pruned since its name was read.
            guard try !store.history().contains(where: { $0.step == entry.step }) else { throw Wrong(what: "\(ref) is there, and yet: \(error)") }
        }
    }

    private static func readAsProcess(_ path: String, _ reader: Int) throws {
        switch reader {
        case 0:
            let outcome = try Command.run(["verify", "--store", path])
            guard outcome.status == 0 else { throw Wrong(what: "verify: \(outcome)") }
        case 1:
            let target = try TemporaryDirectory()
            let outcome = try Command.run(["export", "r~1", target.path + "/x", "--store", path])
            guard outcome.status == 0 || outcome.status == 66 else { throw Wrong(what: "export: \(outcome)") }
        default:
            let outcome = try Command.run(["stats", "--store", path])
            guard outcome.status == 0 else { throw Wrong(what: "stats: \(outcome)") }
        }
    }

    @Test func nothingLooksDamaged() throws {
        let fixture = try StoreFixture(depthLimit: 3)
        let store = fixture.store
        var training = FineTune(tensors: 2)
        let originals = Mutex<[UInt64: [UInt8]]>([:])
        func ingest(_ step: UInt64) throws {
            let bytes = training.next()
            originals.withLock { $0[step] = bytes }
            try FileTree.write(bytes, to: fixture.path("source.safetensors"))
            let outcome = try Command.run(
                ["ingest", fixture.path("source.safetensors"), "--run", "r", "--step", "\(step)", "--store", store.path] + (step % 3 == 0 ? [] : ["--no-image"]))
            try #require(outcome.status == 0, "\(outcome)")
        }
        for step in 1...4 as ClosedRange<UInt64> { try ingest(step) }
        let problems = Mutex<[String]>([])
        let isDone = Mutex(false)
        let rounds = Mutex(0)
        let readers = DispatchGroup()
        for reader in 0..<6 {
            DispatchQueue.global().async(group: readers) {
                var random = SystemRandomNumberGenerator()
                while !isDone.withLock({ $0 }) {
                    do {
                        if reader < 3 {
                            try ReadersDuringPruneTests.readAsProcess(store.path, reader)
                        } else {
                            try ReadersDuringPruneTests.readInProcess(reader == 5 ? Store.open(store.path) : store, originals, &random)
                        }
                        rounds.withLock { $0 += 1 }
                    } catch {
                        problems.withLock { $0.append("reader \(reader): \(error)") }
                    }
                }
            }
        }
        let last: UInt64 = runsSlowTests ? 120 : 30
        for step in 5...last {
            try ingest(step)
            let prune = try Command.run(["prune", "--keep-last", "\(2 + step % 3)", "--keep-every", "7", "--store", store.path])
            #expect(prune.status == 0, "\(prune)")
            if step % 5 == 0 {
                let compact = try Command.run(["compact", "--store", store.path])
                #expect(compact.status == 0, "\(compact)")
            }
        }
        isDone.withLock { $0 = true }
        readers.wait()
        #expect(Set(problems.withLock { $0 }) == [])
        #expect(rounds.withLock { $0 } > 20)
        try fixture.expectWhole()
    }
}
