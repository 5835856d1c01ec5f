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

/// `ckpt train` as a user meets it.
@Suite struct TrainTests {
    private static let pair = ["train", "--strong", "m@2", "--weak", "m@1", "--data", "p"]
    private static let short = ["--steps", "6", "--batch", "4", "--save-every", "2", "--learning-rate", "1e-2"]

    @Test func `a training writes its run, its log and its page, and once more has nothing to do`() throws {
        let playground = try OutputPlayground()
        let (log, page) = (playground.directory.path + "/log.jsonl", playground.directory.path + "/page.html")
        let arguments = TrainTests.pair + TrainTests.short + ["--run", "t", "--eval", "p", "--log", log, "--report", page]
        let outcome = try playground.run(arguments)
        #expect(outcome.output.contains("run t: 3 snapshots, 6 steps") && outcome.output.contains("head t@6"))
        for words in ["round 1 of 1", "strong ", "weak ", "t@2", "nll ", "packed "] { #expect(outcome.errors.contains(words), "\(outcome)") }
        let lines = try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 6 + 3)
        let step = try #require(try JSONSerialization.jsonObject(with: Data(lines[0].utf8)) as? [String: Any])
        for key in ["step", "loss", "nll", "entropy", "p", "weak_entropy", "ln_c", "rate", "gradient_norm", "weak_gradient_norm", "tokens", "seconds"] {
            #expect(step[key] != nil, "\(key)")
        }
        let text = try String(contentsOfFile: page, encoding: .utf8)
        #expect(text.hasPrefix("<!DOCTYPE html>") && text.contains("t@6") && text.contains("wmss"))
        let again = try playground.run(arguments)
        #expect(again.output.contains("nothing was left to do"))
        #expect(try playground.run(["log", "t.weak"]).output.contains("t.weak@6"))
        let shown = try playground.run(["show", "t"]).output
        for words in ["from ckpt train", "trained   wmss, strong ", ", weak ", "lambda 0.5", "metrics   nll "] { #expect(shown.contains(words), "\(shown)") }
        #expect(try playground.run(["stats"]).output.contains("training"))
    }

    @Test func `the store's policy is applied at the end`() throws {
        let playground = try OutputPlayground()
        try playground.run(["prune", "--keep-last", "2", "--save"])
        let arguments = TrainTests.pair + TrainTests.short + ["--run", "t"]
        let outcome = try playground.run(arguments)
        #expect(outcome.output.contains("policy of t: dropped t@2") && outcome.output.contains("policy of t.weak: dropped t.weak@2"), "\(outcome)")
        let log = try playground.run(["log", "t"]).output
        #expect(!log.contains("t@2 ") && log.contains("t@4") && log.contains("t@6"))
        #expect(try playground.run(arguments).output.contains("nothing was left to do"))
    }

    @Test func `JSON has the snapshots and what they cost`() throws {
        let playground = try OutputPlayground()
        let json = try playground.json(TrainTests.pair + TrainTests.short + ["--run", "t", "--eval", "p"])
        #expect(json["run"] as? String == "t" && json["steps"] as? Int == 6 && json["loss"] is Double && json["tokens"] is Int)
        let snapshots = try #require(json["snapshots"] as? [[String: Any]])
        #expect(snapshots.map { $0["ref"] as? String } == ["t@2", "t@4", "t@6"])
        #expect(snapshots.allSatisfy { $0["eval_nll"] is Double && $0["packed_bytes"] is Int })
    }

    @Test func `a trained snapshot is a model like any other`() throws {
        let playground = try OutputPlayground()
        try playground.run(TrainTests.pair + TrainTests.short + ["--run", "t"])
        let target = playground.directory.path + "/exported"
        try playground.run(["export", "t", target])
        #expect(try Set(FileManager.default.contentsOfDirectory(atPath: target)) == ["model.safetensors", "config.json", "tokenizer.json", "ckpt_training.json"])
        #expect(try playground.json(["entropy", "t", "--probe", "p"])["samples"] != nil)
        try playground.run(["diff", "m@2", "t"])
        // It can be trained further, and be a weak one.
        try playground.run(["train", "--strong", "t", "--weak", "t@2", "--data", "p", "--run", "u"] + TrainTests.short)
    }

    @Test func `random weights begin a run that can be trained with a weak of its own choice`() throws {
        let playground = try OutputPlayground()
        let model = playground.directory.path + "/m/checkpoint-2"
        let begun = try playground.run(
            ["train", "--init", model, "--preset", "sft", "--data", "p", "--run", "s", "--epochs", "40", "--batch", "4", "--save-every", "30",
             "--learning-rate", "2e-2", "--dtype", "bf16"])
        #expect(begun.output.contains("5 snapshots"))
        #expect(try playground.run(["show", "s@0", "--tensors"]).output.contains("BF16"))
        let trained = try playground.run(
            ["train", "--strong", "s", "--weak", "auto", "--data", "p", "--run", "w"] + TrainTests.short)
        #expect(trained.errors.contains("GAP VALUE") && trained.errors.contains("best"))
        // The default name says what was done.
        try playground.run(["train", "--strong", "s", "--data", "p"] + TrainTests.short)
        #expect(try playground.run(["log", "s-sft"]).output.contains("s-sft@6"))
    }

    @Test func `what cannot be is refused in one line that says so`() throws {
        let playground = try OutputPlayground()
        let before = try playground.run(["log"]).output
        for (arguments, words) in [
            (["--data", "p"], "either --strong REF"), (["--strong", "m", "--init", "x", "--data", "p"], "either --strong REF"),
            (["--strong", "m", "--data", "p", "--preset", "wmss"], "needs a weak snapshot"),
            (["--strong", "m", "--data", "p", "--preset", "nothing"], "nothing is unknown"),
            (["--strong", "m", "--weak", "m@1", "--data", "p", "--preset", "sft"], "nothing needs it"),
            (["--strong", "m", "--weak", "m@1", "--data", "p", "--lambda", "2"], "--lambda"),
            (["--strong", "m", "--weak", "m@1", "--data", "p", "--select", "H_weak +"], "column"),
            (["--strong", "m", "--data", "p", "--steps", "3", "--epochs", "2"], "--steps and --epochs"),
            (["--strong", "m", "--data", "p", "--dtype", "int8"], "--dtype"), (["--init", "x", "--data", "p"], "--init needs --run"),
            (["--strong", "m", "--data", "p", "--warm-up", "1.5"], "--warm-up"), (["--strong", "m", "--data", "p", "--learning-rate", "-1"], "--learning-rate"),
        ] {
            try playground.expectFailure(64, ["train"] + arguments, saying: words)
        }
        for (status, arguments, words) in [
            (66 as Int32, ["--strong", "nobody", "--data", "p"], "nobody"), (66, ["--strong", "m", "--data", "nothing"], "neither a file nor a probe"),
            (65, ["--strong", "m", "--data", "p", "--run", "other"], "is there already"),
            (65, ["--strong", "m", "--weak", "other", "--data", "p", "--run", "t"], "vocabulary"),
            (66, ["--strong", "m", "--weak", "m@9", "--data", "p"], "m@9"),
        ] {
            try playground.expectFailure(status, ["train"] + arguments + TrainTests.short, saying: words)
        }
        #expect(try playground.run(["log"]).output == before)
    }

    @Test func `samples of tokens need no tokenizer, and a file is the probe it was kept as`() throws {
        let playground = try OutputPlayground()
        let file = playground.directory.path + "/p.jsonl"
        // m@1 has no tokenizer.json.
        try playground.run(["train", "--strong", "m@1", "--data", file, "--run", "t"] + TrainTests.short)
        #expect(try playground.run(["probe", "ls"]).output.split(separator: "\n").count == 2)
        try playground.run(["train", "--strong", "m@1", "--data", "p", "--run", "u"] + TrainTests.short)
        func id(_ ref: String) throws -> String { try #require(try playground.json(["show", ref])["id"] as? String) }
        #expect(try id("t") == id("u"))
    }

    @Test func `other settings for a run that was begun are named`() throws {
        let playground = try OutputPlayground()
        try playground.run(TrainTests.pair + TrainTests.short + ["--run", "t"])
        try playground.expectFailure(
            65, TrainTests.pair + ["--steps", "7", "--batch", "4", "--save-every", "2", "--learning-rate", "1e-2", "--run", "t"],
            saying: "steps was 6 and is 7", "another --run")
    }
}

/// Killed and interrupted at any moment, a training ends with the snapshots it would have had.
@Suite(.serialized) struct TrainKillTests {
    @Test func `snapshots are the same, whenever it was stopped`() throws {
        let playground = try OutputPlayground(samples: 60, tokens: 100...200, vocabulary: 256, width: 32)
        func arguments(_ run: String) -> [String] {
            ["train", "--strong", "m@2", "--weak", "m@1", "--data", "p", "--run", run, "--rounds", "2", "--steps", "12", "--batch", "8",
             "--save-every", "5", "--learning-rate", "3e-3", "--store", playground.store]
        }
        let whole = try Command.run(arguments("whole"))
        try #require(whole.status == 0, "\(whole)")
        let store = try Store.open(playground.store)
        func ids(_ run: String) throws -> [ContentID] { try store.history(of: run).map(\.id) }
        let log = playground.store + "/training/cut/log.jsonl"
        func steps() -> Int { ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").count { $0 == "\n" } }
        var random = SeededBytes(11)
        var stops = 0
        while stops < 200 {
            let before = steps()
            let command = try Command.start(arguments("cut"))
            // Every third time it may be while it begins; else once it has made a step.
            let isEarly = stops % 3 == 2
            while command.isRunning, !isEarly, steps() <= before { usleep(500) }
            usleep(useconds_t.random(in: 0...40_000, using: &random))
            let isInterrupt = Bool.random(using: &random)
            if command.isRunning { command.send(isInterrupt ? SIGINT : SIGKILL) }
            let outcome = command.wait()
            if outcome.status == 0 { break }
            stops += 1
            if isInterrupt, outcome.signal == nil { #expect(outcome.status == 130, "\(outcome)") }
        }
        #expect(stops > 0)
        #expect(try ids("cut") == ids("whole") && ids("cut.weak") == ids("whole.weak"))
        #expect(try Store.verify(playground.store, depth: .full).problems.map(\.description) == [])
    }

    @Test func `what a stopped training goes on with is not pruned`() throws {
        let playground = try OutputPlayground(samples: 60, tokens: 100...200, vocabulary: 256, width: 32)
        func arguments(_ run: String) -> [String] {
            ["train", "--strong", "m@2", "--weak", "m@1", "--data", "p", "--run", run, "--rounds", "2", "--steps", "12", "--batch", "8",
             "--save-every", "5", "--learning-rate", "3e-3", "--store", playground.store]
        }
        try #require(try Command.run(arguments("whole")).status == 0)
        let store = try Store.open(playground.store)
        let log = playground.store + "/training/cut/log.jsonl"
        for stop in [3, 14] {
            let command = try Command.start(arguments("cut"))
            while command.isRunning, ((try? String(contentsOfFile: log, encoding: .utf8)) ?? "").count(where: { $0 == "\n" }) < stop { usleep(500) }
            command.send(SIGINT)
            let outcome = command.wait()
            #expect(outcome.status == 130, "\(outcome)")
            let prune = try playground.run(["prune", "--keep-last", "1"]).output
            #expect(prune.contains("training cut goes on with it"), "\(prune)")
        }
        let outcome = try Command.run(arguments("cut"))
        #expect(outcome.status == 0, "\(outcome)")
        #expect(try store.snapshot("cut").id == store.snapshot("whole").id && store.snapshot("cut.weak").id == store.snapshot("whole.weak").id)
        // At its end nothing needs them any more.
        #expect(try !playground.run(["prune", "--keep-last", "1", "--dry-run"]).output.contains("goes on with it"))
    }
}
