import Foundation
import TensorFormats
import TestSupport
import Testing

/// `log` and `show` of a long history, as a user waits for them.
@Suite struct LongHistoryTests {
    @Test func logAndShowOfTwoThousandSnapshots() throws {
        let playground = try Playground(steps: 0)
        let count = runsSlowTests ? 2000 : 300
        // A directory of single-file checkpoints, named by their steps.
        for step in 0..<count {
            let tiny = SafetensorsFixture([.init("t", .u32, [1], withUnsafeBytes(of: UInt32(step)) { Array($0) })])
            try FileTree.write(tiny.bytes, to: "\(playground.source)/step_\(step).safetensors")
        }
        let store = ["--store", playground.store]
        let ingest = try Command.run(["ingest", playground.source, "--no-image"] + store, timeout: 600)
        #expect(ingest.status == 0, "\(ingest.errors)")
        for arguments in [["log"], ["log", "--json"], ["log", "out"], ["show", "out"], ["show", "out@\(count / 2)"], ["show", "out~\(count - 1)"]] {
            let seconds = try (0..<3).map { _ in
                let outcome = try Command.run(arguments + store)
                #expect(outcome.status == 0)
                return outcome.seconds
            }.min()!
            // 50 ms in a release build; this is one for debugging.
            #expect(seconds < 0.5, "\(arguments)")
        }
        #expect(try Command.run(["log"] + store).output.split(separator: "\n").count == count + 1)
    }
}
