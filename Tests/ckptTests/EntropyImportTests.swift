import CheckpointStore
import Foundation
import TestSupport
import Testing

/// Figures that were made elsewhere, from a file to the commands that use them.
@Suite struct EntropyImportTests {
    /// A file with what `ckpt` itself makes of the probe, under other settings and a provenance of its own.
    private func file(
        _ playground: OutputPlayground, settings: String = "{\"precision\": \"f32\"}", shift: Float = 0,
        edit: (String) -> String = { $0 }
    ) throws -> String {
        let other = playground.directory.path + "/copy"
        if !FileManager.default.fileExists(atPath: other) {
            try FileManager.default.copyItem(atPath: playground.store, toPath: other)
        }
        #expect(try Command.run(["entropy", "m@1", "--probe", "p", "--store", other]).status == 0)
        let store = try Store.open(other)
        let record = try #require(try store.entropyRecords().first)
        let samples = try store.probe("p").probe.samples
        let rows = try store.outputs(of: record.key).map { output in
            "{\"id\": \"\(samples[output.sample].id)\", \"entropy\": \(output.values[0].map { $0 + shift }), \"nll\": \(output.values[1]), \"top1\": \(output.top1)}"
        }
        let head = "{\"provenance\": {\"program\": \"elsewhere 1.0\", \"device\": \"cuda:0\"}, \"settings\": \(settings)}"
        let path = playground.directory.path + "/figures.jsonl"
        try FileTree.write(edit(([head] + rows).joined(separator: "\n")), to: path)
        return path
    }

    private let entropy = ["entropy", "m@1", "--probe", "p"]

    @Test func importedRecordsAreUsed() throws {
        let playground = try OutputPlayground()
        let file = try file(playground, shift: 1)
        let taken = try playground.run(entropy + ["--import", file])
        #expect(taken.output.hasPrefix("m@1: 12 samples taken in; the record has 12 of 12, "))
        #expect(taken.output.contains("elsewhere 1.0") && taken.output.contains("precision=f32") && !taken.output.contains("kept apart"))
        // Twice is once.
        let again = try playground.json(entropy + ["--import", file])
        #expect(again["samples_done"] as? Int == 12 && again["used"] as? Bool == true)
        #expect(again["provenance"] as? [String: String] == ["program": "elsewhere 1.0", "device": "cuda:0"])
        #expect(try playground.records().count == 1)

        let shown = try playground.run(entropy)
        #expect(shown.errors == "" && shown.output.contains("not computed here: from elsewhere 1.0 on cuda:0"))
        let json = try playground.json(entropy)
        #expect((json["provenance"] as? [String: String])?["device"] == "cuda:0")
        let mean = try #require((json["entropy"] as? [String: Any])?["mean"] as? Double)
        // diff and gap take the same figures, and say so; the other model is computed.
        let diff = try playground.run(["diff", "m@1", "m@2", "--probe", "p", "--json"])
        #expect(diff.errors.contains("the figures of m@1 come from elsewhere 1.0 on cuda:0") && !diff.errors.contains("figures of m@2"))
        let total = try #require(try diff.json() as? [String: Any])["total"] as? [String: [String: Any]]
        #expect(abs((total?["entropy_weak"]?["mean"] as? Double ?? 0) - mean) < 1e-12)
        let gap = try Command.run(["gap", "m@2", "--run", "m", "--probe", "p", "--json", "--store", playground.store])
        #expect(gap.errors.contains("the figures of m@1 come from elsewhere 1.0 on cuda:0"), "\(gap)")
    }

    /// A record that holds figures of two programs would show them as those of one.
    @Test func figuresOfTwoProgramsAreNotMixed() throws {
        let playground = try OutputPlayground()
        let file = try file(playground)
        let half = playground.directory.path + "/half.jsonl"
        let lines = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n")
        try FileTree.write(lines.prefix(6).joined(separator: "\n"), to: half)
        try playground.run(entropy + ["--import", half])
        #expect(try playground.records().map(\.samplesDone) == [5])
        let id = try playground.records()[0].key.id.short
        try playground.expectFailure(65, entropy, saying: "5 of 12", "--record \(id)")
        // The rest of the file completes it, and then it is used.
        try playground.run(entropy + ["--import", file])
        #expect(try playground.records().map(\.samplesDone) == [12])
        #expect(try !playground.run(entropy).errors.contains("running m@1"))
    }

    /// A refused file leaves nothing behind, and no provenance for what is computed then.
    @Test func figuresGivenTwiceLeaveNothing() throws {
        let playground = try OutputPlayground()
        let file = try file(playground)
        let text = try String(contentsOfFile: file, encoding: .utf8)
        for (from, to) in [("\"nll\"", "\"entropy\": [1], \"nll\""), ("\"program\"", "\"program\": \"y\", \"program\"")] {
            let twice = playground.directory.path + "/twice.jsonl"
            try FileTree.write(text.replacing(from, with: to), to: twice)
            try playground.expectFailure(65, entropy + ["--import", twice], saying: "twice")
        }
        #expect(try playground.records().isEmpty)
    }

    @Test func otherPrecisionsAreKeptApart() throws {
        let playground = try OutputPlayground()
        let file = try file(playground, settings: "{\"precision\": \"bf16\"}", shift: 1)
        let taken = try playground.run(entropy + ["--import", file])
        #expect(taken.output.contains("precision=bf16") && taken.output.contains("kept apart"))
        let own = try playground.run(entropy)
        #expect(own.errors.contains("running m@1") && !own.output.contains("elsewhere"))
        let records = try #require(try playground.json(["probe", "show", "p"])["records"] as? [[String: Any]])
        #expect(records.compactMap { ($0["settings"] as? [String: String])?["precision"] } == ["bf16", "f32"])
        #expect(records.map { $0["ref"] as? String } == ["m@1", "m@1"])
        #expect(records.allSatisfy { $0["samples_done"] as? Int == 12 && $0["samples_total"] as? Int == 12 })
        let text = try playground.run(["probe", "show", "p"]).output
        #expect(text.contains("precision=bf16  12 of 12") && text.contains("elsewhere 1.0 on cuda:0") && text.contains("ckpt on cpu"))
    }

    /// A pair's figures, whose weak snapshot the file names by its ref.
    @Test func recordsOfPairs() throws {
        let playground = try OutputPlayground(samples: 1, tokens: 4...4)
        let count = try Store.open(playground.store).probe("p").probe.samples[0].supervisedCount
        let figures = [Double](repeating: 0.25, count: count)
        let file = playground.directory.path + "/pair.jsonl"
        try FileTree.write(
            """
            {"provenance": {"program": "x"}, "settings": {"precision": "f32", "weak": "m@1", "lambda": 0.50}}
            {"id": "s0", "kl_strong_weak": \(figures), "kl_weak_strong": \(figures), "ln_c": \(figures.map { -$0 }), "hard_negatives": \(figures)}
            """, to: file)
        try playground.run(["entropy", "m@2", "--probe", "p", "--import", file])
        let diff = try playground.run(["diff", "m@1", "m@2", "--probe", "p", "--json"])
        let total = try #require(try diff.json() as? [String: Any])["total"] as? [String: [String: Any]]
        #expect(total?["kl_strong_weak"]?["mean"] as? Double == 0.25)
        #expect(diff.errors.contains("ln C and hard negatives of m@1 and m@2 come from x") && !diff.errors.contains("running m@1 and m@2"))
    }

    @Test func refusals() throws {
        let playground = try OutputPlayground()
        func refuse(_ words: String..., settings: String = "{\"precision\": \"f32\"}", edit: (String) -> String) throws {
            let file = try file(playground, settings: settings, edit: edit)
            for words in words { try playground.expectFailure(65, entropy + ["--import", file], saying: words) }
        }
        try refuse("figures.jsonl:2", "no such sample") { $0.replacing("\"s0\"", with: "\"x\"") }
        try refuse("figures.jsonl:3", "sample \"s1\" holds NaN") { text in
            var lines = text.components(separatedBy: "\n")
            lines[2] = lines[2].replacing("\"nll\": [", with: "\"nll\": [NaN, ")
            return lines.joined(separator: "\n")
        }
        try refuse("\"s0\"", "tokens") { text in
            var lines = text.components(separatedBy: "\n")
            lines[1] = lines[1].replacing("[", with: "[1, ")
            return lines.joined(separator: "\n")
        }
        // Columns that the commands do not have under their own settings would keep them from computing theirs.
        try refuse("entropy, nll, top1") { $0.replacing(", \"nll\"", with: ", \"kl_strong_weak\"") }
        try refuse("figures.jsonl:2", "\"nll\" of sample \"s0\" holds -") { $0.replacing("\"nll\": [", with: "\"nll\": [-") }
        try refuse("made of snapshot 0123456789ab") { $0.replacing("{\"program\"", with: "{\"snapshot\": \"\(String(repeating: "0123456789abcdef", count: 4))\", \"program\"") }
        try refuse("lambda", settings: "{\"precision\": \"f32\", \"weak\": \"m@2\", \"lambda\": 1.5}") { $0 }
        try playground.expectFailure(65, entropy + ["--import", playground.directory.path + "/nothing"], saying: "no such file")
        try playground.expectFailure(64, entropy + ["--import", "x", "--threads", "1"])
        try playground.expectFailure(66, ["entropy", "m@9", "--probe", "p", "--import", "x"])
        #expect(try playground.records().isEmpty)
    }

    /// Other figures for a sample that is there are refused; the hint removes the record.
    @Test func otherFiguresAreRefused() throws {
        let playground = try OutputPlayground()
        try playground.run(entropy)
        let file = try file(playground, shift: 1)
        let id = try playground.records()[0].key.id.short
        try playground.expectFailure(65, entropy + ["--import", file], saying: "\"s0\"", "ckpt probe rm PROBE --record \(id)")
        try playground.expectFailure(66, ["probe", "rm", "p", "--record", "0123456789abcdef"])
        try playground.run(["probe", "rm", "p", "--record", id])
        #expect(try playground.records().isEmpty)
        try playground.run(entropy + ["--import", file])
    }
}
