import CheckpointStore
import Foundation
import TestSupport
import Testing

/// `ckpt prune` as people use it.
@Suite struct PruneCommandTests {
    private func fixture(_ count: Int = 6) throws -> StoreFixture {
        let fixture = try StoreFixture()
        var training = FineTune()
        for step in 1...count { try fixture.ingest(training.next(), run: "r", step: UInt64(step * 10)) { $0.makesImage = step == count } }
        return fixture
    }

    private func prune(_ fixture: StoreFixture, _ arguments: String...) throws -> Command.Outcome {
        try Command.run(["prune", "--store", fixture.store.path] + arguments)
    }

    @Test func dryRunNamesWhatGoes() throws {
        let fixture = try fixture()
        let before = try fixture.state()
        let dry = try prune(fixture, "--keep-every", "30", "--dry-run", "--json")
        #expect(dry.status == 0 && dry.errors.isEmpty, "\(dry)")
        #expect(try fixture.state() == before)
        let expected = try #require(dry.json() as? [String: Any])
        let real = try #require(prune(fixture, "--keep-every", "30", "--json").json() as? [String: Any])
        func dropped(_ json: [String: Any]) -> [String] {
            (json["rows"] as? [[String: Any]] ?? []).filter { $0["kept"] as? Bool == false }.compactMap { $0["ref"] as? String }
        }
        #expect(dropped(expected) == ["r@10", "r@20", "r@40", "r@50"] && dropped(real) == dropped(expected))
        let (forecast, freed) = (try #require(expected["bytes_freed"] as? Int), try #require(real["bytes_freed"] as? Int))
        #expect(abs(forecast - freed) * 20 <= forecast, "\(forecast) expected, \(freed) freed")
        #expect(expected["dry_run"] as? Bool == true && real["dry_run"] as? Bool == false)
        let text = try prune(fixture, "--keep-last", "1")
        #expect(text.output.contains("dropped") && text.output.contains("head, last 1") && text.output.contains("went back to the file system"), "\(text)")
        #expect(try prune(fixture, "--keep-last", "1").output.contains("nothing to drop"))
        try fixture.expectWhole()
    }

    @Test func refusals() throws {
        let fixture = try fixture(2)
        for (arguments, status, word) in [
            ([], 65, "--keep-last 5"), (["--dry-run"], 65, "without a rule"), (["--keep-last", "0"], 65, "1 at least"), (["--keep-gap", "2"], 65, "--by-distance"),
            (["--keep-last", "x"], 64, "x"), (["--budget", "5 parsecs", "--by-distance"], 64, "parsecs"), (["--keep-best", "loss"], 64, "loss"),
            (["--keep-best", "loss:1:up"], 64, "loss"), (["--min-age", "7"], 64, "7"),
            (["--keep-gap", "1", "--probe", "p"], 66, "p"), (["--keep-last", "1", "--run", "x"], 66, "x"), (["--forget"], 66, "no policy"),
            (["--saved"], 65, "no policy"), (["--save", "--saved", "--keep-last", "1"], 64, "one of them"), (["--saved", "--keep-last", "1"], 64, "without rules"),
            (["--probe", "p", "--by-distance", "--keep-gap", "1"], 64, "not both"),
        ] as [([String], Int32, String)] {
            let outcome = try Command.run(["prune", "--store", fixture.store.path] + arguments)
            #expect(outcome.status == status && outcome.errors.contains(word) && outcome.output.isEmpty, "\(arguments): \(outcome)")
        }
        #expect(try fixture.store.history().count == 2)
    }

    @Test func policyAfterIngest() throws {
        let fixture = try fixture(4)
        #expect(try prune(fixture, "--keep-last", "3", "--save").status == 0)
        #expect(try fixture.store.history().map(\.step) == [20, 30, 40])
        var training = FineTune()
        for _ in 0..<5 { _ = training.next() }
        try FileTree.write(training.next(), to: fixture.path("new/model.safetensors"))
        let ingest = try Command.run(["ingest", fixture.path("new/model.safetensors"), "--run", "r", "--step", "50", "--store", fixture.store.path])
        #expect(ingest.status == 0 && ingest.output.contains("policy of r: dropped r@20"), "\(ingest)")
        #expect(try fixture.store.history().map(\.step) == [30, 40, 50])
        #expect(try prune(fixture, "--saved", "-n", "--json").status == 0)
        #expect(try prune(fixture, "--forget").status == 0)
        #expect(try fixture.store.policies().isEmpty)
        // Before there is such a run.
        #expect(try prune(fixture, "--run", "later", "--keep-last", "1", "--save").status == 0)
        #expect(try prune(fixture, "--run", "later", "--forget").status == 0)
        // One that cannot be applied keeps nothing out.
        #expect(try prune(fixture, "--keep-last", "1", "--run", "r", "--save", "--json").status == 0)
        var broken = RetentionPolicy()
        (broken.keepByWorth, broken.worth) = (1, .gap(probe: "gone", leastGap: 0.1))
        try fixture.store.savePolicy(broken, for: "r")
        let again = try Command.run(["ingest", fixture.path("new/model.safetensors"), "--run", "r", "--step", "60", "--store", fixture.store.path])
        #expect(again.status == 0 && again.errors.contains("was not applied"), "\(again)")
        try fixture.expectWhole()
    }

    /// Those that stand for the others by distance, within a budget that is kept.
    @Test func byDistance() throws {
        let fixture = try fixture(8)
        let total = try fixture.store.stats().packedBytes
        let outcome = try prune(fixture, "--by-distance", "--budget", "\(total * 3 / 4)", "--json")
        #expect(outcome.status == 0, "\(outcome)")
        #expect(try fixture.store.stats().packedBytes <= total * 3 / 4)
        let left = try fixture.store.history().map(\.step)
        #expect(left.contains(80) && left.count > 1 && left.count < 8, "\(left)")
        // What cannot be reached is told.
        let small = try prune(fixture, "--by-distance", "--budget", "1K", "--json")
        #expect(small.status == 0 && small.output.contains("over the budget"), "\(small)")
        try fixture.expectWhole()
    }

    @Test func metricsOfTagAndTrainer() throws {
        let fixture = try StoreFixture()
        for step in 1...4 {
            let directory = try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out"))
            let loss = abs(2.5 - Double(step))
            try FileTree.write(
                "{\"global_step\": \(step), \"log_history\": [{\"step\": \(step), \"eval_loss\": \(loss)}, {\"step\": 99, \"eval_loss\": 0}]}",
                to: directory + "/trainer_state.json")
        }
        try fixture.ingest(fixture.path("out"))
        #expect(try fixture.store.metrics(of: "out@1") == ["eval_loss": 1.5])
        let tag = try Command.run(["tag", "--metric", "acc=0.5", "--metric", "eval_loss=9", "out@2", "--store", fixture.store.path, "--json"])
        #expect(tag.status == 0 && tag.output.contains("\"eval_loss\":9"), "\(tag)")
        for bad in [["--metric", "acc", "out"], ["--metric", "a b=1", "out"], ["--metric", "a=nan", "out"]] {
            #expect(try Command.run(["tag", "--store", fixture.store.path] + bad).status == 65)
        }
        #expect(try prune(fixture, "--keep-best", "eval_loss:1", "-n").output.contains("lowest eval_loss"))
        #expect(try prune(fixture, "--keep-best", "eval_loss:1").status == 0)
        #expect(try fixture.store.history().map(\.step) == [3, 4])
    }

    /// Tagged ones stay by themselves; a pattern says which of them when they may go.
    @Test func tags() throws {
        let fixture = try fixture(5)
        for (step, tag) in [(10, "best-1"), (20, "other"), (30, "best-2")] { try fixture.store.tag("r@\(step)", as: tag) }
        let plain = try prune(fixture, "--keep-tag", "best*", "--dry-run", "--json")
        let rows = try #require(plain.json() as? [String: Any])["rows"] as? [[String: Any]] ?? []
        #expect(rows.filter { $0["kept"] as? Bool == false }.map { $0["ref"] as? String } == ["r@40"])
        #expect(try prune(fixture, "--keep-tag", "best*", "--include-tagged").status == 0)
        #expect(try fixture.store.history().map(\.step) == [10, 30, 50] && fixture.store.tags().map(\.name) == ["best-1", "best-2"])
    }

    @Test func savedPoliciesAreListed() throws {
        let fixture = try fixture(2)
        #expect(try prune(fixture, "--policies").output == "no policy is kept\n")
        #expect(try prune(fixture, "--keep-last", "9", "--save").output.contains("all runs without their own"))
        #expect(try prune(fixture, "--keep-every", "7", "--run", "later", "--save").status == 0)
        #expect(try prune(fixture, "--policies").output.contains("later: {\"keep_every\":7}"))
        let listed = try #require(prune(fixture, "--policies", "--json").json() as? [[String: Any]])
        #expect(listed.count == 2 && listed[0]["run"] is NSNull && (listed[0]["policy"] as? [String: Any])?["keep_last"] as? Int == 9)
        // One for all others leaves those alone that have their own.
        #expect(try prune(fixture, "--keep-last", "2", "--run", "r", "--save").status == 0)
        #expect(try prune(fixture, "--keep-last", "1", "--save").output.contains("there is no snapshot"))
        #expect(try fixture.store.history().count == 2)
        #expect(try prune(fixture, "--forget", "--run", "later").output.contains("forgotten"))
    }
}
