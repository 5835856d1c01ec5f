import CheckpointStore
import Foundation
import TestSupport
import Testing

/// `ckpt diff --probe` as scripts and people see it.
@Suite struct OutputDiffTests {
    private static let diff = ["diff", "m@1", "m@2", "--probe", "p"]
    private static let figures = [
        "entropy_weak", "entropy_strong", "dh", "nll_weak", "nll_strong", "dnll", "top1_weak", "top1_strong", "dtop1", "kl_strong_weak",
        "kl_weak_strong", "ln_c", "hard_negatives",
    ]

    private static func number(_ value: Any?) throws -> Double { try #require(value as? NSNumber).doubleValue }

    /// Of the figures of a record, sample by sample.
    private static func means(_ playground: OutputPlayground, _ key: EntropyKey, _ column: Int) throws -> [Double] {
        try Store.open(playground.store).outputs(of: key).map { output in
            output.values[column].reduce(0) { $0 + Double($1) } / Double(output.count)
        }
    }

    @Test func json() throws {
        let playground = try OutputPlayground()
        let answer = try playground.json(OutputDiffTests.diff + ["--lambda", ".42"])
        #expect((answer["weak"] as? [String: Any])?["ref"] as? String == "m@1")
        #expect((answer["strong"] as? [String: Any])?["ref"] as? String == "m@2")
        #expect(answer["lambda"] as? Double == 0.42)
        let settings = try #require(answer["settings"] as? [String: String])
        #expect(settings["precision"] == "f32" && settings["lambda"] == "0.42" && settings["weak"]?.count == 64 && settings.count == 3)
        let samples = try #require(answer["samples"] as? [[String: Any]])
        let total = try #require(answer["total"] as? [String: [String: Any]])
        #expect(samples.map { $0["id"] as? String } == (0..<12).map { "s\($0)" })
        for figure in OutputDiffTests.figures {
            let values = try samples.map { try OutputDiffTests.number($0[figure]) }
            let mean = values.reduce(0, +) / 12
            let interval = try #require(total[figure])
            #expect(abs(try OutputDiffTests.number(interval["mean"]) - mean) < 1e-12)
            #expect(try OutputDiffTests.number(interval["low"]) <= mean && OutputDiffTests.number(interval["high"]) >= mean)
        }
        #expect(Set(total.keys) == Set(OutputDiffTests.figures))
        // The records: each model's own, and the pair's under the strong one.
        let records = try playground.records()
        #expect(records.count == 3 && records.allSatisfy { $0.isComplete && $0.provenance["program"] == "ckpt" })
        let pair = try #require(records.first { $0.key.settings["weak"] != nil })
        #expect("\(pair.key.snapshot)" == (answer["strong"] as? [String: Any])?["snapshot"] as? String)
        #expect(pair.columns == [.klStrongWeak, .klWeakStrong, .lnC, .hardNegatives])
        let kept = try OutputDiffTests.means(playground, pair.key, 3)
        for (sample, mean) in zip(samples, kept) {
            #expect(abs(try OutputDiffTests.number(sample["hard_negatives"]) - mean) < 1e-12 && mean > 0 && mean < 1)
        }
        let bins = try #require(answer["dh_histogram"] as? [[String: Any]])
        #expect(bins.compactMap { $0["samples"] as? Int }.reduce(0, +) == 12)
        #expect((answer["dh_quantiles"] as? [[String: Any]])?.count == 7)
        // `ckpt entropy` reads what the pass of both has kept.
        let own = try playground.run(["entropy", "m@1", "--probe", "p", "--json"])
        #expect(own.errors == "")
        let entropies = try #require(try own.json() as? [String: Any])["samples"] as? [[String: Any]]
        for (a, b) in zip(samples, try #require(entropies)) { #expect(a["entropy_weak"] as? Double == b["entropy"] as? Double) }
    }

    @Test func text() throws {
        let playground = try OutputPlayground()
        let first = try playground.run(OutputDiffTests.diff + ["--limit", "2"])
        #expect(first.errors.hasPrefix("ckpt: running m@1 and m@2 (llama): up to ") && first.errorLines.count == 1)
        // Again, from the records.
        let outcome = try playground.run(OutputDiffTests.diff + ["--limit", "2"])
        #expect(outcome.errors == "" && outcome.output == first.output)
        let answer = try playground.json(OutputDiffTests.diff)
        let total = try #require(answer["total"] as? [String: [String: Any]])
        func shown(_ figure: String) throws -> String { String(format: "%.4f", try OutputDiffTests.number(total[figure]?["mean"])) }
        let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines[0].hasPrefix("A m@1, B m@2, lambda 0.5: 12 samples, "))
        #expect(lines[1] == "nats per token, 95 % intervals over samples" && lines[2] == "")
        for (start, figures) in [
            ("entropy ", ["entropy_weak", "entropy_strong", "dh"]), ("nll ", ["nll_weak", "nll_strong", "dnll"]),
            ("top-1 ", ["top1_weak", "top1_strong", "dtop1"]), ("KL(B||A) ", ["kl_strong_weak"]), ("KL(A||B) ", ["kl_weak_strong"]),
            ("ln C ", ["ln_c"]), ("hard negatives ", ["hard_negatives"]),
        ] {
            let line = try #require(lines.first { $0.hasPrefix(start) })
            for figure in figures { #expect(line.contains(try shown(figure)), "\(line)") }
        }
        let samples = try #require(answer["samples"] as? [[String: Any]]).map { ($0["id"] as? String ?? "", $0["dh"] as? Double ?? .nan) }
        for (title, group) in [
            ("became sure", samples.filter { $0.1 < 0 }.sorted { $0.1 < $1.1 }), ("became unsure", samples.filter { $0.1 > 0 }.sorted { $0.1 > $1.1 }),
        ] where !group.isEmpty {
            let at = try #require(lines.firstIndex { $0.hasPrefix(title + ": \(group.count) sample") })
            #expect(lines[at + 1].hasPrefix("SAMPLE  TOKENS   H(A)"))
            for (index, sample) in group.prefix(2).enumerated() {
                #expect(lines[at + 2 + 2 * index].hasPrefix(sample.0 + " "))
                // Neither text nor pieces are known: the ids of prompt and completion.
                #expect(lines[at + 3 + 2 * index].contains(" | "))
            }
        }
    }

    @Test func againstItself() throws {
        let playground = try OutputPlayground()
        let answer = try playground.json(["diff", "m@2", "m@2", "--probe", "p"])
        let total = try #require(answer["total"] as? [String: [String: Any]])
        for figure in ["dh", "dnll", "dtop1", "hard_negatives"] { #expect(total[figure]?["mean"] as? Double == 0) }
        for figure in ["kl_strong_weak", "kl_weak_strong", "ln_c"] { #expect(abs(try OutputDiffTests.number(total[figure]?["mean"])) < 1e-6) }
        #expect(try playground.records().count == 2)
        let text = try playground.run(["diff", "m@2", "m@2", "--probe", "p"]).output
        #expect(!text.contains("became"))
    }

    @Test func tokenByToken() throws {
        let playground = try OutputPlayground()
        let answer = try playground.json(OutputDiffTests.diff + ["--tokens", "s3"])
        let tokens = try #require(answer["tokens"] as? [[String: Any]])
        // Only this sample was computed.
        #expect(try playground.records().map(\.samplesDone) == [1, 1, 1])
        let probe = try Store.open(playground.store).probe("p").probe.samples[3]
        #expect(tokens.compactMap { $0["position"] as? Int } == Array(probe.supervised[0]))
        #expect(tokens.compactMap { $0["token"] as? Int } == probe.tokens[probe.supervised[0]].map(Int.init))
        for token in tokens {
            let dh = try OutputDiffTests.number(token["entropy_strong"]) - OutputDiffTests.number(token["entropy_weak"])
            #expect(abs(try OutputDiffTests.number(token["dh"]) - dh) < 1e-12 && token["piece"] is NSNull)
            for name in ["nll_weak", "nll_strong", "top1_weak", "top1_strong", "kl_strong_weak", "kl_weak_strong", "ln_c", "hard_negatives"] {
                #expect(token[name] is NSNumber, "\(name)")
            }
        }
        let text = try playground.run(OutputDiffTests.diff + ["--tokens", "s3"])
        #expect(text.errors == "" && text.output.hasPrefix("sample s3: A m@1, B m@2, lambda 0.5; \(tokens.count) scored token"))
        // The rest is added to the same records.
        let all = try #require(try playground.json(OutputDiffTests.diff)["samples"] as? [[String: Any]])
        #expect(all.count == 12)
        #expect(try playground.records().allSatisfy(\.isComplete))
    }

    /// Text of the probe, or pieces of its tokens: shown without what would act on a terminal.
    @Test func textAndPieces() throws {
        let playground = try OutputPlayground()
        let pieces = Dictionary(uniqueKeysWithValues: [Int32(1), 2, 3].map { ($0, Array(" w\($0)\u{1b}[31m".utf8)) })
        let sample = { (prompt: String?) in
            ProbeSample(id: "a", tokens: [1, 2, 3, 2], supervised: [2..<4], prompt: prompt, completion: prompt.map { _ in "an\nanswer" })
        }
        let store = try Store.open(playground.store)
        try store.addProbe(Probe(samples: [sample("a\u{9b}question")], pieces: pieces), name: "text")
        try store.addProbe(Probe(samples: [sample(nil)], pieces: pieces), name: "pieces")
        let text = try playground.run(["diff", "m@1", "m@2", "--probe", "text"]).output
        #expect(text.contains("a\\x9bquestion | an answer") && !text.contains("\u{1b}"))
        for arguments in [[], ["--tokens", "a"]] {
            let output = try playground.run(["diff", "m@1", "m@2", "--probe", "pieces"] + arguments).output
            #expect(output.contains("w1\\x1b[31m w2\\x1b[31m | w3\\x1b[31m") && !output.contains("\u{1b}"), "\(output)")
        }
        let tokens = try #require(try playground.json(["diff", "m@1", "m@2", "--probe", "pieces", "--tokens", "a"])["tokens"] as? [[String: Any]])
        #expect(tokens.map { $0["piece"] as? String } == [" w3\u{1b}[31m", " w2\u{1b}[31m"])
    }

    /// What is likely need not occur in the probe: the tokenizer beside the weights names it, if it is the probe's.
    @Test func tokensOfTheSnapshotsOwnTokenizer() throws {
        let playground = try OutputPlayground(samples: 1)
        let sample = ProbeSample(id: "a", tokens: [1, 2, 3, 2], supervised: [2..<4])
        let store = try Store.open(playground.store)
        let id = ContentID.hash(of: try FileTree.bytes(OutputPlayground.tokenizer))
        try store.addProbe(Probe(samples: [sample], tokenizer: id, pieces: [3: [0x41]]), name: "its")
        try store.addProbe(Probe(samples: [sample], tokenizer: ContentID.hash(of: [1]), pieces: [3: [0x41]]), name: "another")
        func tokens(_ probe: String) throws -> [[String: Any]] {
            try #require(try playground.json(["diff", "m@1", "m@2", "--probe", probe, "--tokens", "a"])["tokens"] as? [[String: Any]])
        }
        for token in try tokens("its") {
            for name in ["piece", "top1_weak_piece", "top1_strong_piece"] { #expect((token[name] as? String)?.isEmpty == false, "\(name)") }
        }
        #expect(try tokens("its").map { $0["piece"] as? String } == ["A", "#"])
        #expect(try tokens("another").map { $0["piece"] as? String } == ["A", nil])
    }

    @Test func refusals() throws {
        let playground = try OutputPlayground(samples: 3)
        let path = playground.directory.path + "/m/checkpoint-1"
        for extra in [["--by", "kind"], ["--sort", "max"], ["--exit-code"], ["--lambda", "0"], ["--lambda", "1"], ["--lambda", "nan"], ["--lambda", "1e-60"], ["--threads", "0"], ["--max-length", "1"]] {
            try playground.expectFailure(64, OutputDiffTests.diff + extra)
        }
        for extra in [["--tokens", "s1"], ["--lambda", ".5"], ["--threads", "1"], ["--max-length", "9"]] {
            try playground.expectFailure(64, ["diff", "m@1", "m@2"] + extra)
        }
        try playground.expectFailure(65, ["diff", path, "m@2", "--probe", "p"], saying: path, "ckpt ingest")
        try playground.expectFailure(65, ["diff", "m@2", path, "--probe", "p"], saying: path, "ckpt ingest")
        try playground.expectFailure(65, ["diff", "m@2", "other", "--probe", "p"], saying: "m@2", "other", "61", "67")
        try playground.expectFailure(66, ["diff", "m@2", "m@9", "--probe", "p"])
        try playground.expectFailure(66, ["diff", "m@1", "m@2", "--probe", "q"])
        try playground.expectFailure(66, OutputDiffTests.diff + ["--tokens", "nobody"], saying: "nobody", "ckpt probe show p")
        #expect(try playground.records().isEmpty)
    }

    /// One number is one key, and a limit that cuts is another.
    @Test func keys() throws {
        let playground = try OutputPlayground()
        for lambda in [".5", "0.50", "5e-1"] { try playground.run(OutputDiffTests.diff + ["--lambda", lambda]) }
        #expect(try playground.records().count == 3)
        let long = ProbeSample(id: "long", tokens: [1, 2, 3, 4, 5, 6, 7], supervised: [2..<3, 4..<7])
        try Store.open(playground.store).addProbe(Probe(samples: [long]), name: "long")
        let cut = try playground.run(["diff", "m@1", "m@2", "--probe", "long", "--max-length", "6", "--json"])
        #expect(cut.errors.contains("1 sample cut to 6 tokens: long"))
        let answer = try #require(try cut.json() as? [String: Any])
        #expect(answer["cut_samples"] as? [String] == ["long"] && (answer["settings"] as? [String: String])?["max_length"] == "6")
        #expect((answer["samples"] as? [[String: Any]])?.first?["tokens"] as? Int == 3)
        try playground.run(["diff", "m@1", "m@2", "--probe", "long", "--max-length", "7"])
        try playground.run(["diff", "m@1", "m@2", "--probe", "long"])
        #expect(try playground.records().count == 9)
    }
}
