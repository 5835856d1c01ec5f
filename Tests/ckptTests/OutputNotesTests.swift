import CheckpointStore
import Foundation
import TestSupport
import Testing

/// What commands say, or refuse, where figures would not mean what they seem to.
@Suite struct OutputNotesTests {
    private let playground: OutputPlayground
    private var store: [String] { ["--store", playground.store] }

    init() throws { playground = try OutputPlayground() }

    /// Takes `m@1` in again as `run`, its configuration changed.
    private func ingest(_ run: String, _ edit: (String) -> String) throws {
        let from = playground.directory.path + "/m/checkpoint-1"
        let to = playground.directory.path + "/\(run)/checkpoint-1"
        try FileTree.write(FileTree.bytes(from + "/model.safetensors"), to: to + "/model.safetensors")
        let config = try String(contentsOfFile: from + "/config.json", encoding: .utf8)
        #expect(edit(config) != config)
        try FileTree.write(edit(config), to: to + "/config.json")
        try playground.run(["ingest", to, "--run", run, "--step", "1"])
    }

    @Test func vocabulariesOfDifferentSizeAreNotRanked() throws {
        try playground.expectFailure(65, ["gap", "m@2", "--run", "other", "--probe", "p"], saying: "vocabulary of 67", "one of 61")
    }

    @Test func refusedRunsLeaveNoRecord() throws {
        try FileTree.write("{\"input_ids\": [1, 2, 3, 61], \"completion_start\": 2}\n", to: playground.directory.path + "/q.jsonl")
        try playground.run(["probe", "add", "q", playground.directory.path + "/q.jsonl"])
        for arguments in [["entropy", "m@1"], ["diff", "m@1", "m@2"]] {
            let outcome = try Command.run(arguments + ["--probe", "q"] + store)
            #expect(outcome.status == 65 && outcome.errors.contains("token 61") && !outcome.errors.contains("running"), "\(outcome)")
        }
        #expect(try playground.records().isEmpty)
    }

    @Test func tensorsWithoutUseAndLongSamplesAreSaid() throws {
        try ingest("short") { $0.replacing("\"max_position_embeddings\": 4096", with: "\"max_position_embeddings\": 5") }
        #expect(try playground.run(["entropy", "short", "--probe", "p"]).errors.contains("longer than the 5 positions"))
        #expect(try !playground.run(["entropy", "m@1", "--probe", "p"]).errors.contains("note"))
        // One layer fewer is none at all, which is refused; a tensor more is said.
        let file = playground.directory.path + "/more/checkpoint-1"
        try TinyModel.write(seed: 5, to: file, more: ["model.layers.1.mlp.up_proj.weight"])
        try playground.run(["ingest", file, "--run", "more", "--step", "1"])
        #expect(
            try playground.run(["entropy", "more", "--probe", "p"]).errors
                .contains("no use for 1 tensor of its weights: model.layers.1.mlp.up_proj.weight"))
    }

    @Test func aProbeOfAnotherTokenizerIsSaid() throws {
        let directory = playground.directory.path + "/tokenizer"
        let text = try String(contentsOfFile: OutputPlayground.tokenizer, encoding: .utf8)
        try FileTree.write(text, to: directory + "/tokenizer.json")
        try FileTree.write(text + "\n", to: directory + "-2/tokenizer.json")
        try FileTree.write("{\"prompt\": \"!\", \"completion\": \"#$\"}\n", to: playground.directory.path + "/t.jsonl")
        for (name, source) in [("same", directory), ("other", directory + "-2")] {
            try playground.run(["probe", "add", name, playground.directory.path + "/t.jsonl", "--tokenizer", source, "--no-eos"])
            let said = try Command.run(["entropy", "m@2", "--probe", name] + store).errors.contains("another tokenizer.json")
            #expect(said == (name == "other"))
        }
    }

    @Test func charactersThatATokenizerLeavesOutAreSaid() throws {
        let directory = playground.directory.path + "/digits"
        let digits = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appending(path: "examples/tiny-run/checkpoint-100/tokenizer.json").path
        try FileTree.write(FileTree.bytes(digits), to: directory + "/tokenizer.json")
        for (name, prompt) in [("known", "1+1="), ("unknown", "one 1=")] {
            try FileTree.write("{\"id\": \"a\", \"prompt\": \"\(prompt)\", \"completion\": \"2\"}\n", to: directory + "/\(name).jsonl")
            let said = try playground.run(["probe", "add", name, directory + "/\(name).jsonl", "--tokenizer", directory, "--no-eos"]).errors
            #expect(said.contains("1 sample with characters that the tokenizer leaves out: a") == (name == "unknown"))
        }
    }

    @Test func probesComeFromPipesToo() throws {
        let file = playground.directory.path + "/p.jsonl"
        let script = "cat '\(file)' | '\(Command.path)' probe add piped - --store '\(playground.store)'"
        #expect(try Command.start(["-c", script], program: "/bin/sh").wait().status == 0)
        let probes = try Store.open(playground.store).probes()
        #expect(Set(probes.map(\.name)) == ["p", "piped"] && Set(probes.map(\.id)).count == 1)
        try playground.expectFailure(65, ["probe", "add", "x", playground.directory.path], saying: "a directory")
        try FileTree.write("{\"prompt\": \"a\", \"prompt\": \"b\", \"completion\": \"c\"}\n", to: playground.directory.path + "/twice.jsonl")
        try playground.expectFailure(65, ["probe", "add", "x", playground.directory.path + "/twice.jsonl"], saying: "\"prompt\" is there twice")
    }

    @Test func whatIsRemovedIsSaid() throws {
        try playground.run(["entropy", "m@1", "--probe", "p"])
        let record = try playground.records()[0].key.id.short
        #expect(try playground.run(["probe", "rm", "p", "--record", record]).output == "removed entropy record \(record)\n")
        try playground.run(["entropy", "m@1", "--probe", "p"])
        try playground.run(["unpin", "m@1"])
        #expect(try playground.run(["rm", "m@1"]).errors.contains("1 entropy record went with it"))
        let id = try Store.open(playground.store).probe("p").id.short
        #expect(try playground.run(["probe", "rm", id]).output == "removed p  \(id)\n")
        try playground.expectFailure(66, ["probe", "rm", "p", "--record", ""])
    }

    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/dev/full"))) func anAnswerThatCannotBeWrittenIsAFailure() throws {
        let script = "'\(Command.path)' probe ls --store '\(playground.store)' > /dev/full"
        let outcome = try Command.start(["-c", script], program: "/bin/sh").wait()
        #expect(outcome.status == 1 && outcome.errors.contains("writing the answer"))
    }
}
