import CheckpointStore
import Foundation
import LanguageModel
import TensorFormats
import TestSupport
import Testing

@testable import WeakTraining

@Suite struct TrainerTests {
    @Test(arguments: Preset.allCases)
    func `every preset trains and writes its run`(preset: Preset) throws {
        let playground = try TrainingPlayground()
        let settings = try playground.settings(preset)
        let steps = try playground.train(settings)
        #expect(steps.count == 6 * settings.plan.recipe.stepFactor)
        let history = try playground.store.history(of: "t")
        #expect(history.map(\.step) == Array(stride(from: 2, through: UInt64(steps.count), by: 2)))
        #expect(history[0].parent == (try playground.id("m@3")) && history[0].source == "ckpt train")
        #expect(Set(history.map(\.id)).count == history.count)
        let isJoint = settings.plan.recipe.weakBranch == .joint
        #expect(((try? playground.ids("t.weak")) != nil) == isJoint)
        #expect(steps.allSatisfy { $0.gradientNorms.count == (isJoint ? 2 : 1) && $0.figures.loss.isFinite })
        if isJoint { #expect(try playground.store.history(of: "t.weak")[0].parent == playground.id("m@1")) }
        #expect(try playground.store.verifyIsClean())
    }

    @Test func `a run teaches what it is given`() throws {
        let playground = try TrainingPlayground()
        let steps = try playground.train(try playground.settings(.sft, steps: 60, saveInterval: 60, rate: 2e-2))
        func mean(_ step: TrainedStep) -> Double { step.figures.loss / Double(step.figures.tokens) }
        #expect(mean(steps[59]) < mean(steps[0]) / 3)
    }

    @Test(arguments: [1, 2, 3, 5], [Preset.wmss, .sft, .frozenWeak, .shuffledWeak, .matchedTemperature])
    func `stopped anywhere it goes on to the same snapshots`(stride: Int, preset: Preset) throws {
        let playground = try TrainingPlayground()
        try playground.train(playground.settings(preset, run: "whole", rounds: 2))
        // Other threads each time: they decide nothing.
        try playground.trainWithStops(playground.settings(preset, run: "cut", rounds: 2), every: stride) { $0 % 3 + 1 }
        #expect(try playground.ids("cut") == playground.ids("whole"))
        if preset == .wmss { #expect(try playground.ids("cut.weak") == playground.ids("whole.weak")) }
        let log = TrainingLog.lines(playground.directory.path + "/store/training/cut/log.jsonl")
        #expect(log.compactMap { $0["loss"] == nil ? nil : $0["step"]?.unsigned } == Array(1...12))
    }

    @Test func `recomputed layers and other threads give the same snapshots`() throws {
        let playground = try TrainingPlayground()
        try playground.train(playground.settings(run: "a"), threads: 1)
        try playground.train(playground.settings(run: "b"), threads: 3)
        try playground.train(playground.settings(run: "c")) { $0.checkpointsActivations = true }
        #expect(try playground.ids("a") == playground.ids("b") && playground.ids("a") == playground.ids("c"))
    }

    @Test func `random weights begin a history, and the seed decides them`() throws {
        let playground = try TrainingPlayground()
        func begun(_ run: String, seed: UInt64) throws -> [ContentID] {
            var settings = try playground.settings(.sft, run: run, steps: 4, seed: seed)
            settings.start = .random(ContentID.hash(of: []))
            try playground.train(settings)
            #expect(try playground.store.history(of: run).map(\.step) == [0, 2, 4])
            return try playground.ids(run)
        }
        let first = try begun("a", seed: 1)
        #expect(try begun("b", seed: 1) == first)
        #expect(try begun("c", seed: 2)[0] != first[0])
    }

    @Test func `samples that a new model cannot read are refused before anything is written`() throws {
        let playground = try TrainingPlayground()
        let config = playground.config + "/config.json"
        let text = String(decoding: try FileTree.bytes(config), as: UTF8.self)
        try FileTree.write(text.replacing("\"vocab_size\": 61", with: "\"vocab_size\": 30"), to: config)
        var settings = try playground.settings(.sft, steps: 2)
        settings.start = .random(ContentID.hash(of: []))
        let error = #expect(throws: LanguageModelError.self) { try playground.train(settings) }
        #expect("\(error!)".contains("sample s") && "\(error!)".contains("a vocabulary of 30"))
        #expect((try? playground.ids("t")) == nil)
        try FileTree.write(text, to: config)
        try playground.train(settings)
        #expect(try playground.ids("t").count == 2)
    }

    @Test(arguments: [Preset.sft, .wmss], [false, true])
    func `killed between a snapshot and its state it is gone on with`(preset: Preset, isRandom: Bool) throws {
        guard preset == .sft || !isRandom else { return }
        let playground = try TrainingPlayground()
        func settings(_ run: String) throws -> TrainingSettings {
            var settings = try playground.settings(preset, run: run, steps: 4)
            if isRandom { settings.start = .random(ContentID.hash(of: [])) }
            return settings
        }
        try playground.train(settings("whole"))
        // The state as it is before the first snapshot, put back after the last one: as if the others had never been written.
        let state = playground.directory.path + "/store/training/cut/state"
        #expect(throws: StoreError.self) { try playground.train(settings("cut"), stopAfter: 1) }
        let first = try FileTree.bytes(state)
        try playground.train(settings("cut"))
        let ids = try playground.ids("cut")
        try FileTree.write(first, to: state)
        #expect(try playground.train(settings("cut")).count == 3)
        #expect(try playground.ids("cut") == ids && ids == playground.ids("whole"))
    }

    @Test func `a snapshot that is needed to go on and was removed is named`() throws {
        let playground = try TrainingPlayground()
        let settings = try playground.settings(.mixOnly)
        let weak = try playground.id("m@1")
        #expect(throws: StoreError.self) { try playground.train(settings, stopAfter: 1) }
        try playground.store.remove("m@1")
        let error = #expect(throws: StoreError.self) { try playground.train(settings) }
        #expect(error?.code == .noSuchRef && "\(error!)".contains("run t goes on with snapshot \(weak.short)"))
    }

    /// As README has it: nothing but what a training with samples drawn alike needs.
    @Test func `a plain host`() throws {
        let playground = try TrainingPlayground()
        let (host, count) = (TrainerHost(), try playground.store.history().count)
        try Trainer(playground.store, playground.settings(.frozenWeak, RecipeChoices(selection: .uniform)), host).train()
        #expect(try playground.ids("t").count == 3)
        let error = #expect(throws: WeakTrainingError.self) { try Trainer(playground.store, playground.settings(run: "u"), host).train() }
        #expect(error?.code == .usage)
        #expect(try playground.store.history().count == count + 3)
    }

    /// The built-in check of the method: half the gradient each, clipped over both; AdamW's steps do not know its scale.
    @Test func `equal branches stay equal`() throws {
        let playground = try TrainingPlayground()
        let settings = try playground.settings(.mixOnly, weaks: ["m@3"])
        #expect(settings.plan.recipe.lambda == 0.5)
        try playground.train(settings)
        for step in [2, 4, 6] {
            let (strong, weak) = (try playground.store.contents("t@\(step)"), try playground.store.contents("t.weak@\(step)"))
            #expect(strong.tensors.map(\.name) == weak.tensors.map(\.name) && !strong.tensors.isEmpty)
            for tensor in strong.tensors where tensor.part == .weights {
                let other = try #require(weak.tensors.first { $0.name == tensor.name })
                func bytes(_ contents: CheckpointContents, _ tensor: TensorEntry) throws -> [UInt8] {
                    try contents.makeReader().withBytes(of: tensor, 0..<tensor.byteCount) { Array($0) }
                }
                #expect(try bytes(strong, tensor) == bytes(weak, other), "\(tensor.name) at \(step)")
            }
        }
    }

    @Test func `a round's weak is the strong of the one before`() throws {
        let playground = try TrainingPlayground()
        try playground.train(playground.settings(rounds: 2, steps: 2))
        let notes = try playground.notes("t")
        #expect(notes[0]["round_strong"]?.string == "\(try playground.id("m@3"))")
        #expect(notes[0]["round_weak"]?.array?.map(\.string) == ["\(try playground.id("m@1"))"])
        #expect(notes[1]["round_strong"]?.string == "\(try playground.id("t@2"))")
        #expect(notes[1]["round_weak"]?.array?.map(\.string) == ["\(try playground.id("m@3"))"])
        #expect(try playground.store.history(of: "t.weak")[1].parent == playground.id("m@3"))
    }

    @Test func `a trained weak keeps its own configuration`() throws {
        let playground = try TrainingPlayground()
        let path = playground.directory.path + "/m/checkpoint-1"
        let text = String(decoding: try FileTree.bytes(path + "/config.json"), as: UTF8.self)
        try FileTree.write(text.replacing("{\"model_type\"", with: "{\"mark\": 1, \"model_type\""), to: path + "/config.json")
        var options = IngestOptions()
        (options.run, options.step) = ("other", 1)
        try playground.store.ingest(path, options: options)
        try playground.train(playground.settings(steps: 2, weaks: ["other@1"]))
        func isMarked(_ run: String) throws -> Bool {
            try JSONValue.parse(playground.store.sidecars(run).contents("config.json")!, path: "config.json")["mark"] != nil
        }
        #expect(try isMarked("t.weak"))
        #expect(try !isMarked("t"))
    }

    @Test func `a chosen weak is asked for each round`() throws {
        let playground = try TrainingPlayground()
        var settings = try playground.settings(rounds: 2, steps: 2, weaks: [])
        settings.choosesWeak = true
        try playground.train(settings)
        for note in try playground.notes("t") { #expect(note["round_weak"]?.array?.map(\.string) == ["\(try playground.id("m@2"))"]) }
    }

    @Test func `each sample is mixed with the weak of greatest gap`() throws {
        #expect(
            try Trainer.choices(ids: ["a", "b", "c"], strong: [1, 1, 1], weaks: [[2, 1.5, 1], [1.5, 2, 1]]) == [0, 1, 1])
        #expect(throws: WeakTrainingError.self) { try Trainer.choices(ids: ["a"], strong: [.nan], weaks: [[1], [1]]) }
        let playground = try TrainingPlayground()
        let steps = try playground.train(playground.settings(.frozenWeak, weaks: ["m@1", "m@2"]))
        #expect(steps.count == 6)
    }

    @Test func `a note says how a snapshot was made, and the files that describe the model are taken over`() throws {
        let playground = try TrainingPlayground()
        var settings = try playground.settings(steps: 2)
        settings.evaluation = playground.data
        try playground.train(settings, evaluate: true)
        let note = try playground.notes("t")[0]
        #expect(note["metrics"]?["nll"]?.double == 1.25)
        #expect(note["settings"]?["plan"]?["lambda"]?.double == 0.5 && note["settings"]?["run"] == nil)
        #expect(note["settings"]?["data"]?.string == "\(playground.data)")
        let sidecars = try playground.store.sidecars("t")
        #expect(try sidecars.contents("generation_config.json") != nil && sidecars.contents("config.json") != nil)
        #expect(try sidecars.contents("trainer_state.txt") == nil)
    }

    @Test(arguments: [(DType.bf16, "bfloat16"), (.f16, "float16"), (.f32, "float32")])
    func `snapshots have the dtype that is asked for, and their configuration says so`(dtype: DType, name: String) throws {
        let playground = try TrainingPlayground()
        let path = playground.directory.path + "/m/checkpoint-3"
        let text = String(decoding: try FileTree.bytes(path + "/config.json"), as: UTF8.self)
        try FileTree.write(text.replacing("{\"model_type\"", with: "{\"dtype\": \"float64\", \"model_type\""), to: path + "/config.json")
        var options = IngestOptions()
        (options.run, options.step) = ("m", 4)
        try playground.store.ingest(path, options: options)
        var settings = try playground.settings(.sft, steps: 2)
        settings.start = .snapshot(try playground.id("m@4"))
        settings.dtype = dtype
        try playground.train(settings)
        let contents = try playground.store.contents("t")
        #expect(contents.tensors.allSatisfy { $0.dtype == dtype })
        let config = try JSONValue.parse(contents.sidecars.contents("config.json")!, path: "config.json")
        #expect(config["dtype"]?.string == name)
        #expect(try LanguageModel(contents, longest: 8).logits([1, 2, 3]).allSatisfy(\.isFinite))
    }

    @Test func `other settings are refused with what differs, and change nothing`() throws {
        let playground = try TrainingPlayground()
        try playground.train(playground.settings())
        let before = try playground.ids("t")
        var other = try playground.settings(seed: 4)
        other.saveInterval = 3
        let error = #expect(throws: StoreError.self) { try playground.train(other) }
        #expect(error?.code == .conflict && "\(error!)".contains("--save-every was 2 and is 3; --seed was 3 and is 4"))
        #expect(try playground.ids("t") == before)
        // A finished one has nothing left to do.
        #expect(try playground.train(playground.settings()).isEmpty)
        #expect(throws: StoreError.self) { try playground.train(playground.settings(run: "m")) }
    }

    @Test func `a damaged state is named, whichever byte it is`() throws {
        let playground = try TrainingPlayground()
        let settings = try playground.settings(.sft, steps: 4)
        #expect(throws: StoreError.self) { try playground.train(settings, stopAfter: 1) }
        let path = playground.directory.path + "/store/training/t/state"
        let bytes = try FileTree.bytes(path)
        for place in stride(from: 0, to: bytes.count, by: max(1, bytes.count / 97)) {
            var broken = bytes
            broken[place] ^= 0x10
            try FileTree.write(broken, to: path)
            #expect(throws: (any Error).self, "byte \(place)") { try playground.train(settings) }
        }
        try FileTree.write(Array(bytes.prefix(bytes.count / 2)), to: path)
        #expect(throws: StoreError.self) { try playground.train(settings) }
        #expect((try? playground.ids("t")) == nil)
        try FileTree.write(bytes, to: path)
        #expect(try playground.train(settings).count == 3)
    }

    @Test func `a kill before the first state leaves a training to go on with`() throws {
        let playground = try TrainingPlayground()
        for isRandom in [false, true] {
            let run = isRandom ? "random" : "t"
            var settings = try playground.settings(.sft, run: run)
            if isRandom { settings.start = .random(ContentID.hash(of: [])) }
            #expect(throws: StoreError.self) { try playground.train(settings, stopAfter: 1) }
            try playground.writeState(settings, TrainingProgress())
            // The first snapshot was taken in, the state behind it not written.
            #expect(throws: StoreError.self) { try playground.train(settings, stopAfter: 3) }
            try playground.writeState(settings, TrainingProgress())
            #expect(try playground.train(settings).count == 6)
            var whole = settings
            whole.run = run + "-whole"
            try playground.train(whole)
            #expect(try playground.ids(run) == playground.ids(whole.run))
        }
    }

    @Test func `a training without a step or a snapshot may be begun with other settings`() throws {
        let playground = try TrainingPlayground()
        let first = try playground.settings(.sft)
        #expect(throws: WeakTrainingError.self) { try playground.train(playground.settings(.sft, steps: 40, saveInterval: 40, rate: 1e30)) }
        #expect(try playground.train(first).count == 6)
    }

    @Test func `numbers and ids of a state are not trusted`() throws {
        let playground = try TrainingPlayground()
        let settings = try playground.settings()
        let id = "\(try playground.id("m@1"))"
        func text(step: UInt64 = 4, stepInRound: UInt64 = 4, strong: String, weak: String) -> String {
            """
            {"round": 0, "step_in_round": \(stepInRound), "step": \(step), "strong": "\(strong)", "weak": [\(weak)], "weights": ""}
            """
        }
        #expect(try TrainingProgress(text(strong: id, weak: "\"\(id)\""), path: "state").weaks == [playground.id("m@1")])
        for bad in [
            text(strong: "x", weak: ""), text(strong: id, weak: "\"x\""), text(strong: id, weak: "1"), text(stepInRound: 5, strong: id, weak: ""),
            text(step: UInt64(Int.max), strong: id, weak: ""), text(step: .max, strong: id, weak: ""),
        ] {
            #expect(throws: StoreError.self, "\(bad)") { try TrainingProgress(bad, path: "state") }
        }
        // A whole state that names no weak snapshot for a mix.
        #expect(throws: StoreError.self) { try playground.train(settings, stopAfter: 1) }
        var progress = TrainingProgress()
        (progress.step, progress.stepInRound, progress.strong) = (1, 1, try playground.id("m@3"))
        try playground.writeState(settings, progress)
        let error = #expect(throws: WeakTrainingError.self) { try playground.train(settings) }
        #expect("\(error!)".contains("no weak snapshot"))
    }

    @Test func `what cannot be trained leaves nothing in the store`() throws {
        let playground = try TrainingPlayground()
        #expect(throws: StoreError.self) { try playground.train(playground.settings(run: "m")) }
        #expect(throws: LanguageModelError.self) {
            var settings = try playground.settings(.sft)
            settings.data = try playground.store.addProbe(
                Probe(samples: [ProbeSample(id: "far", tokens: [1, 61], supervised: [1..<2])]), name: "far")
            try playground.train(settings)
        }
        #expect(throws: (any Error).self) { try FileTree.bytes(playground.directory.path + "/store/training/m/lock") }
        #expect(throws: (any Error).self) { try FileTree.bytes(playground.directory.path + "/store/training/t/lock") }
    }

    @Test func `a file that is no log is not written over`() throws {
        let playground = try TrainingPlayground()
        let path = playground.directory.path + "/notes"
        try FileTree.write("kept\n", to: path)
        let error = #expect(throws: StoreError.self) { try playground.train(playground.settings(.sft)) { $0.logPath = path } }
        #expect(error?.code == .badInput && "\(error!)".contains("notes"))
        #expect(try FileTree.bytes(path) == Array("kept\n".utf8))
        try playground.train(playground.settings(.sft, run: "u")) { $0.logPath = path + ".jsonl" }
        #expect(TrainingLog.lines(path + ".jsonl").count == 9)
    }

    @Test func `a loss that is no number ends the training, and the snapshots stay`() throws {
        let playground = try TrainingPlayground()
        let error = #expect(throws: WeakTrainingError.self) {
            try playground.train(playground.settings(.sft, steps: 40, saveInterval: 1, rate: 1e30))
        }
        #expect("\(error!)".contains("no number"))
        #expect(try !playground.ids("t").isEmpty)
        #expect(try playground.store.verifyIsClean())
    }

    @Test func `one process trains a run at a time`() throws {
        let playground = try TrainingPlayground()
        let area = try TrainingArea(playground.store, run: "t")
        let error = #expect(throws: StoreError.self) { try playground.train(playground.settings()) }
        #expect(error?.code == .locked)
        withExtendedLifetime(area) {}
        for name in ["..", ".", "a/b", ""] { #expect(throws: StoreError.self) { try TrainingArea(playground.store, run: name) } }
    }

    @Test func `what training keeps goes with the last snapshot of its run`() throws {
        let playground = try TrainingPlayground()
        try playground.train(playground.settings(.sft, steps: 2))
        #expect(TrainingArea.exists(playground.store, run: "t"))
        #expect(try playground.store.stats().trainingBytes > 0)
        try playground.store.remove("t")
        #expect(!TrainingArea.exists(playground.store, run: "t"))
    }

    @Test func `bf16 is rounded to the nearest, of two the even`() {
        for (value, word) in [
            (1.0 as Float, 0x3F80 as UInt16), (1.00390625, 0x3F80), (1.01171875, 0x3F82), (1.0039064, 0x3F81), (-2, 0xC000), (0, 0),
            (.infinity, 0x7F80), (.greatestFiniteMagnitude, 0x7F80), (-0.0, 0x8000),
        ] {
            #expect(FloatWords.bfloat(value) == word, "\(value)")
        }
        #expect(Float(bitPattern: UInt32(FloatWords.bfloat(Float.nan)) << 16).isNaN)
        #expect(Float(bitPattern: UInt32(FloatWords.bfloat(Float(bitPattern: 0x7F80_0001))) << 16).isNaN)
    }
}

extension TrainingPlayground {
    func statePath(_ run: String) -> String { directory.path + "/store/training/\(run)/state" }

    /// A state without weights, as there is one before the first step.
    func writeState(_ settings: TrainingSettings, _ progress: TrainingProgress) throws {
        let state = ResumeState(settings: settings.json.text, progress: progress.json.text, kernels: Trainer.kernels)
        try state.write([], to: statePath(settings.run), ThreadTeam(count: 1))
    }

    /// The notes of a run's snapshots.
    func notes(_ run: String) throws -> [JSONValue] {
        try store.history(of: run).map { entry in
            let bytes = try #require(try store.sidecars("\(entry.id)").contents("ckpt_training.json"))
            return try JSONValue.parse(bytes, path: "note")
        }
    }
}

extension Store {
    func verifyIsClean() throws -> Bool { try Store.verify(path, depth: .full).problems.isEmpty }
}
