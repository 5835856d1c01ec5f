import CheckpointStore
import Foundation
import TestSupport
import Testing

/// `ckpt merge` as a user meets it.
@Suite struct MergeCommandTests {
    @Test func meansAveragesAndTaskVectors() throws {
        let playground = try OutputPlayground()
        let mean = try playground.run(["merge", "m@1", "m@2", "--run", "soup", "--tag", "mean"])
        #expect(mean.output.contains("soup@0"), "\(mean)")
        #expect(try playground.run(["show", "mean"]).output.contains("ckpt merge m@1 m@2"))
        // Between the two.
        let store = try Store.open(playground.store)
        try playground.run(["merge", "m@2", "m@1", "--weights", "0.5,0.5", "--run", "soup"])
        #expect(try store.history(of: "soup").map(\.step) == [0, 1])
        try playground.run(["merge", "m", "--ema", "0.9", "--run", "ema"])
        try playground.run(["merge", "m@2", "--ema", "0", "--run", "same"])
        // Of a decay of 0 only the last one is left, and a vector that is taken away again changes nothing.
        try playground.run(["merge", "m@2", "--add", "m@1", "--subtract", "m@1", "--scale", "0.3", "--run", "same"])
        for ref in ["same@0", "same@1"] {
            let diff = try Command.run(["diff", "m@2", ref, "--exit-code", "--store", playground.store])
            #expect(diff.status == 0, "\(diff)")
        }
        // They are models like any other.
        #expect(try playground.json(["entropy", "mean", "--probe", "p"])["samples"] != nil)
        #expect(try Store.verify(playground.store, depth: .full).problems.isEmpty)
    }

    @Test func refusals() throws {
        let playground = try OutputPlayground()
        try playground.expectFailure(65, ["merge", "m@1", "other@1", "--run", "x"], saying: "other@1")
        try playground.expectFailure(66, ["merge", "m@1", "nowhere", "--run", "x"], saying: "nowhere")
        for arguments in [
            ["m@1", "m@2"], ["--run", "x"], ["m", "m", "--ema", "0.5", "--run", "x"], ["m", "--ema", "1", "--run", "x"], ["m", "--add", "m@1", "--run", "x"],
            ["m@1", "m@2", "--weights", "1", "--run", "x"], ["m@1", "--weights", "a", "--run", "x"], ["m@1", "--scale", "2", "--run", "x"],
        ] { try playground.expectFailure(64, ["merge"] + arguments) }
        #expect(try !playground.run(["log"]).output.contains("x@"))
    }
}
