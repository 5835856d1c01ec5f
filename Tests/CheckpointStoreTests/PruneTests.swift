import CheckpointStore
import Foundation
import LMDB
import TensorFormats
import TestSupport
import Testing

/// Policies, what they drop, and what is left after.
@Suite struct PruneTests {
    /// A run of `count` steps of a fine-tune, ten apart.
    private func run(_ count: Int, _ fixture: StoreFixture, name: String = "r", tensors: Int = 2) throws -> [UInt64: [UInt8]] {
        var training = FineTune(tensors: tensors)
        var steps: [UInt64: [UInt8]] = [:]
        for index in 1...count {
            let bytes = training.next()
            steps[UInt64(index * 10)] = bytes
            try fixture.ingest(bytes, run: name, step: UInt64(index * 10)) { $0.makesImage = index == count }
        }
        return steps
    }

    private func policy(_ change: (inout RetentionPolicy) -> Void) -> RetentionPolicy {
        var policy = RetentionPolicy()
        change(&policy)
        return policy
    }

    private func kept(_ plan: RetentionPlan) -> [UInt64] { plan.rows.filter(\.isKept).map(\.entry.step) }

    private func expectExports(_ fixture: StoreFixture, _ steps: [UInt64: [UInt8]], run: String = "r") throws {
        for entry in try fixture.store.history(of: run) {
            #expect(try fixture.export("\(run)@\(entry.step)")["model.safetensors"] == Data(try #require(steps[entry.step])), "\(entry.step)")
        }
        try fixture.expectWhole()
    }

    @Test func rulesCombine() throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        _ = try run(12, fixture, tensors: 1)
        try store.tag("r@20", as: "keep-me")
        try store.pin("r@50")
        for (step, value) in [(10, 3.0), (30, 1.0), (60, 2.0), (70, 2.0)] { try store.setMetric("eval_loss", value, of: "r@\(step)") }
        let plan = try store.plan(policy { $0.keepLast = 2; $0.keepEvery = 40 })
        #expect(kept(plan) == [20, 40, 50, 80, 110, 120])
        #expect(plan.rows.first { $0.entry.step == 120 }?.reasons == ["head", "last 2", "every 40"])
        #expect(plan.rows.first { $0.entry.step == 20 }?.reasons == ["tag keep-me"])
        #expect(plan.rows.first { $0.entry.step == 50 }?.reasons == ["pinned"])
        // Snapshots without the metric stay; of equals the later one is better.
        let best = try store.plan(policy { $0.keepBest = [.init(metric: "eval_loss", count: 2, isLowest: true)] })
        #expect(best.rows.filter { !$0.isKept }.map(\.entry.step) == [10, 60])
        let highest = try store.plan(policy { $0.keepBest = [.init(metric: "eval_loss", count: 1, isLowest: false)] })
        #expect(highest.rows.filter { !$0.isKept }.map(\.entry.step) == [30, 60, 70])
        let tagged = try store.plan(policy { $0.keepLast = 1; $0.includesTagged = true })
        #expect(kept(tagged) == [50, 120])
        let matched = try store.plan(policy { $0.keepTags = ["keep-*"]; $0.includesTagged = true })
        #expect(kept(matched) == [20, 50, 120])
        let young = try store.plan(policy { $0.leastAge = 3600 })
        #expect(young.dropped.isEmpty)
        let old = try store.plan(policy { $0.leastAge = 3600 }, now: Int64(Date.now.timeIntervalSince1970 + 7200) * 1_000_000_000)
        #expect(kept(old) == [20, 50, 120])
        let needed = try store.plan(policy { $0.keepLast = 1 }, needed: [try store.snapshot("r@10").id: "needed by run x"])
        #expect(kept(needed) == [10, 20, 50, 120])
    }

    @Test func impossiblePolicies() throws {
        let fixture = try StoreFixture()
        _ = try run(3, fixture, tensors: 1)
        for (policy, word) in [
            (policy { _ in }, "without a rule"), (policy { $0.keepLast = 0 }, "--keep-last 0"), (policy { $0.keepEvery = 0 }, "--keep-every"),
            (policy { $0.keepByWorth = 2 }, "--by-distance"), (policy { $0.budget = 5 }, "--by-distance"), (policy { $0.optimizerKeep = 0 }, "1 at least"),
            (policy { $0.keepBest = [.init(metric: "a b", count: 1, isLowest: true)] }, "no name"), (policy { $0.includesTagged = true }, "without a rule"),
        ] {
            try fixture.expectRefusal(.badInput, saying: word) { _ = try fixture.store.plan(policy) }
        }
        try fixture.expectRefusal(.noSuchRef) { _ = try fixture.store.plan(policy { $0.keepLast = 1 }, runs: ["x"]) }
    }

    /// What a plan says is what happens: which go, and how many packed bytes.
    @Test(arguments: [1, 3, 4], [true, false]) func planIsWhatHappens(every: UInt64, rebases: Bool) throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        let steps = try run(13, fixture)
        let plan = try store.plan(policy { $0.keepEvery = 10 * every; $0.keepLast = 2 })
        let expected = try store.forecastRebasing(plan)
        let before = try store.stats()
        let result = try store.prune(plan, rebases: rebases)
        let after = try store.stats()
        #expect(result.removed.map(\.step) == plan.dropped.map(\.entry.step))
        #expect(try store.history(of: "r").map(\.step) == kept(plan))
        #expect(result.freedBytes == before.packedBytes - after.packedBytes)
        if rebases {
            let forecast = Double(plan.freedBytes + expected.savedBytes)
            #expect(abs(forecast - Double(result.freedBytes)) <= 0.05 * forecast, "\(expected), \(result.rebasing)")
            #expect(result.rebasing.hiddenBlocks == after.hiddenBlocks)
            // A dense root may stay: another block would have to be dense in its place.
            if every > 1 { #expect(result.rebasing.blocks > 0 && after.hiddenBlocks <= 2, "\(result.rebasing)") }
        } else {
            #expect(result.freedBytes == plan.freedBytes)
            #expect(every == 1 || after.hiddenBlocks > 0)
        }
        try expectExports(fixture, steps)
        // Once more there is nothing to do.
        let again = try store.prune(store.plan(plan.policy))
        #expect(again.removed.isEmpty && again.freedBytes == 0)
    }

    /// Random drops, one after the other, with other runs grown from snapshots that go: everything that is left comes back.
    @Test(arguments: 0..<(runsSlowTests ? 40 : 6)) func anyOrder(seed: UInt64) throws {
        var random = SeededBytes(seed)
        let fixture = try StoreFixture(depthLimit: [1, 2, 5].randomElement(using: &random)!)
        let store = fixture.store
        let steps = try run(10, fixture)
        var training = FineTune()
        var branch: [UInt64: [UInt8]] = [:]
        for index in 1...4 {
            for _ in 0..<3 { _ = training.next() }
            branch[UInt64(index)] = training.next()
            try fixture.ingest(branch[UInt64(index)]!, run: "branch", step: UInt64(index)) { if index == 1 { $0.parent = "r@30" } }
        }
        while try store.history().count > 2 {
            var keep = policy { $0.keepLast = 1; $0.includesTagged = true }
            for entry in try store.history() where Bool.random(using: &random) || Bool.random(using: &random) {
                try store.tag("\(entry.id)", as: "t\(entry.run)\(entry.step)")
                keep.keepTags.append("t\(entry.run)\(entry.step)")
            }
            let before = try store.stats().packedBytes
            let result = try store.prune(store.plan(keep), rebases: Int.random(in: 0..<4, using: &random) > 0)
            #expect(result.freedBytes == before - (try store.stats().packedBytes))
            try expectExports(fixture, steps)
            try expectExports(fixture, branch, run: "branch")
        }
        for tag in try store.tags() { try store.removeTag(tag.name) }
        try store.remove("r")
        try store.remove("branch")
        #expect(try store.stats().blocks == 0)
        try fixture.expectWhole()
    }

    @Test func optimizersGo() throws {
        let fixture = try StoreFixture()
        for step in 1...5 { try FakeTrainer.write(step: step, seed: UInt64(step), to: fixture.path("out")) }
        try fixture.ingest(fixture.path("out"))
        let plan = try fixture.store.plan(policy { $0.optimizerKeep = 2 })
        #expect(plan.dropped.isEmpty && plan.optimizers.map(\.ref) == ["out@1", "out@2", "out@3"])
        // Of those that stay, not of those that are there before.
        let both = try fixture.store.plan(policy { $0.keepEvery = 2; $0.optimizerKeep = 1 })
        #expect(both.dropped.map(\.entry.step) == [1, 3] && both.optimizers.map(\.ref) == ["out@2", "out@4"])
        let before = try fixture.store.stats().packedBytes
        let result = try fixture.store.prune(both)
        #expect(result.freedBytes == before - (try fixture.store.stats().packedBytes))
        #expect(result.optimizers == ["out@2", "out@4"])
        #expect(try fixture.store.history().map(\.dropped) == [[.optimizer], [.optimizer], []])
        try fixture.expectWhole()
    }

    /// Space comes back to the file system, and readers of what was there before go on.
    @Test func spaceReturns() throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        var random = SeededBytes(3)
        for step in 1...6 {
            let bytes = SafetensorsFixture([.init("t", .u8, [3 << 20], random.bytes(3 << 20))]).bytes
            try fixture.ingest(bytes, run: "r", step: UInt64(step)) { $0.makesImage = false }
        }
        let before = try store.stats().storeBytes
        let environment = try Environment.open(path: store.path + "/gen-1")
        let plan = try store.plan(policy { $0.keepLast = 1 })
        do {
            let reader = try environment.beginRead()
            let result = try store.prune(plan)
            // A reader of the time before still needs the pages.
            #expect(result.removed.count == 5 && result.returnedBytes < 1 << 20 && result.reusableBytes > 14 << 20, "\(result)")
            withExtendedLifetime(reader) {}
        }
        let space = try environment.returnFreeSpace()
        #expect(space.returnedBytes > 14 << 20 && space.reusableBytes < 1 << 20, "\(space)")
        #expect(try store.stats().storeBytes < before - (14 << 20))
        #expect(try environment.returnFreeSpace().returnedBytes == 0)
        try fixture.expectWhole()
        // What was given back is filled again.
        let size = try #require(FileManager.default.attributesOfItem(atPath: store.path + "/gen-1/data.mdb")[.size] as? Int)
        for step in 7...10 {
            let bytes = SafetensorsFixture([.init("t", .u8, [3 << 20], random.bytes(3 << 20))]).bytes
            try fixture.ingest(bytes, run: "r", step: UInt64(step)) { $0.makesImage = false }
        }
        let filled = try #require(FileManager.default.attributesOfItem(atPath: store.path + "/gen-1/data.mdb")[.size] as? Int)
        #expect(filled <= size + (1 << 20))
        try fixture.expectWhole()
    }

    @Test func metricsAndPoliciesStay() throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        _ = try run(3, fixture, tensors: 1)
        #expect(try store.policies().isEmpty && store.policy(of: "r") == nil)
        try store.setMetric("acc", 0.5, of: "r@10")
        try store.setMetric("acc", 0.25, of: "r@10")
        try store.setMetric("eval/x-1.y_z", -1e300, of: "r@10")
        #expect(try store.metrics(of: "r@10") == ["acc": 0.25, "eval/x-1.y_z": -1e300])
        #expect(try store.metrics(of: "r@20") == [:])
        try fixture.expectRefusal(.badInput) { try store.setMetric("a b", 1, of: "r") }
        try fixture.expectRefusal(.badInput) { try store.setMetric("a", .nan, of: "r") }
        try fixture.expectRefusal(.noSuchRef) { try store.removeMetric("acc", of: "r@20") }
        try store.removeMetric("acc", of: "r@10")
        let all = policy { $0.keepLast = 2; $0.keepBest = [.init(metric: "m", count: 1, isLowest: true)]; $0.leastAge = 60 }
        let own = policy {
            $0.keepEvery = 5; $0.keepTags = ["a*"]; $0.budget = 1 << 40; $0.worth = .gap(probe: "p", leastGap: 0.5); $0.strong = "r@10"
            $0.includesTagged = true; $0.optimizerKeep = 3; $0.keepByWorth = 4
        }
        try store.savePolicy(all, for: nil)
        try store.savePolicy(own, for: "r")
        #expect(try store.policy(of: "r") == own)
        #expect(try store.policy(of: "x") == all)
        #expect(try store.policies().map(\.run) == [nil, "r"])
        try fixture.expectWhole()
        try store.compact()
        #expect(try store.policy(of: "r") == own)
        #expect(try store.removePolicy(for: "r"))
        #expect(try !store.removePolicy(for: "r"))
        #expect(try store.policy(of: "r") == all)
        // What is said of a snapshot goes with it.
        try store.remove("r@10")
        try fixture.expectWhole()
    }

    /// A plan that was made before others changed the store drops nothing that has become a head or got a name.
    @Test func plansThatAreOutOfDate() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        for step in 1...4 as ClosedRange<UInt64> { try fixture.ingest(training.next(), step: step) { $0.makesImage = false } }
        let store = fixture.store
        var policy = RetentionPolicy()
        policy.keepLast = 1
        let plan = try store.plan(policy)
        #expect(plan.dropped.map(\.ref) == ["r@1", "r@2", "r@3"])
        try store.remove("r@4")
        #expect { try store.prune(plan) } throws: { ($0 as? StoreError)?.code == .conflict }
        #expect(try store.history().map(\.step) == [1, 2, 3])
        let other = try store.plan(policy)
        try store.tag("r@1", as: "good")
        #expect { try store.prune(other) } throws: { ($0 as? StoreError)?.code == .conflict }
        try store.removeTag("good")
        try store.pin("r@1")
        #expect { try store.prune(other) } throws: { ($0 as? StoreError)?.code == .conflict }
        try store.unpin("r@1")
        #expect(try store.prune(other).removed.count == 2)
        try fixture.expectWhole()
    }

    /// What a dry run says, where optimizers go too and where runs share snapshots.
    @Test(arguments: [(1, nil), (3, 1), (nil, 1), (2, 2)] as [(Int?, Int?)])
    func forecastsOfSharedRunsAndOptimizers(_ last: Int?, _ optimizers: Int?) throws {
        let fixture = try StoreFixture()
        let store = fixture.store
        var (weights, moments) = (FineTune(tensors: 2), FineTune(tensors: 3))
        for step in 1...6 {
            let directory = fixture.path("out/checkpoint-\(step)")
            try FileTree.write(weights.next(), to: directory + "/model.safetensors")
            try FileTree.write(moments.next(), to: directory + "/optimizer.safetensors")
            for run in step % 2 == 0 ? ["a", "b"] : ["a"] { try fixture.ingest(directory, run: run, step: UInt64(step)) { $0.makesImage = false } }
        }
        var policy = RetentionPolicy()
        (policy.keepLast, policy.optimizerKeep) = (last, optimizers)
        let plan = try store.plan(policy)
        let expected = try plan.freedBytes + store.forecastRebasing(plan).savedBytes
        let before = try store.stats().packedBytes
        let result = try store.prune(plan)
        let after = try store.stats()
        #expect(result.freedBytes == before - after.packedBytes)
        #expect(abs(Double(expected) - Double(result.freedBytes)) <= 0.05 * Double(before), "\(expected) expected, \(result.freedBytes) freed of \(before)")
        #expect(plan.optimizers.isEmpty || result.rebasing.blocks > 0)
        try fixture.expectWhole()
    }

    @Test func policiesOfAnyNumbersCanBeRead() throws {
        let fixture = try StoreFixture()
        var training = FineTune()
        for step in 1...3 as ClosedRange<UInt64> { try fixture.ingest(training.next(), step: step) { $0.makesImage = false } }
        var policy = RetentionPolicy()
        (policy.keepEvery, policy.leastAge, policy.budget, policy.worth) = (.max, .max, .max, .distance)
        policy.keepBest = [.init(metric: "loss", count: .max, isLowest: true)]
        try fixture.store.savePolicy(policy, for: nil)
        #expect(try fixture.store.policy(of: "r") == policy)
        policy.worth = nil
        policy.budget = nil
        #expect(try fixture.store.plan(policy).dropped.isEmpty)
        try fixture.expectWhole()
    }
}
