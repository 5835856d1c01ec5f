import Foundation
import TestSupport
import Testing

/// `ckpt generate` and `ckpt eval` on the example run, from a store and from its directory.
@Suite struct GenerateEvalTests {
    static let examples = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appending(path: "examples").path
    static let model = examples + "/tiny-run/checkpoint-400"
    static let data = examples + "/sums.jsonl"

    static func json(_ arguments: [String]) throws -> [String: Any] {
        let outcome = try Command.run(arguments + ["--json"])
        try #require(outcome.status == 0, "\(outcome)")
        return try #require(try outcome.json() as? [String: Any])
    }

    static func result(_ arguments: [String]) throws -> [String: Any] {
        try #require((try json(["eval"] + arguments)["results"] as? [[String: Any]])?.first)
    }

    static func refuses(_ arguments: [String], _ status: Int32, saying words: String) throws {
        let outcome = try Command.run(arguments)
        #expect(outcome.status == status && outcome.output == "" && outcome.errors.contains(words), "\(outcome)")
    }

    @Test func aPromptIsContinuedAsItComesAndAsJSON() throws {
        let text = try Command.run(["generate", GenerateEvalTests.model, "--prompt", "07+11=", "--max-new", "9"])
        #expect(text.status == 0 && text.output.hasSuffix("\n"), "\(text)")
        let made = try #require(
            (try GenerateEvalTests.json(["generate", GenerateEvalTests.model, "--prompt", "07+11=", "--max-new", "9"])["generations"]
                as? [[String: Any]])?.first)
        #expect(made["text"] as? String == String(text.output.dropLast()))
        #expect((made["tokens"] as? [Int])?.count == (made["log_probabilities"] as? [Double])?.count)
        #expect(made["stop"] as? String == "end")
    }

    @Test func drawnTextsAreNamedBySeedAndAttempt() throws {
        func texts(_ more: [String]) throws -> [String] {
            let all = try GenerateEvalTests.json(["generate", GenerateEvalTests.model, "--prompt", "07+11=", "--temperature", "1.5"] + more)
            return try #require(all["generations"] as? [[String: Any]]).map { $0["text"] as! String }
        }
        let eight = try texts(["--samples", "8", "--seed", "3"])
        #expect(Set(eight).count > 1)
        #expect(try texts(["--samples", "3", "--seed", "3", "--threads", "1"]) == Array(eight[..<3]))
        #expect(try texts(["--samples", "8", "--seed", "4"]) != eight)
    }

    @Test func promptsOfAFileNeedNoCompletion() throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/prompts.jsonl"
        try FileTree.write("{\"id\": \"a\", \"prompt\": \"07+11=\"}\n{\"id\": \"b\", \"prompt\": \"10+46=\", \"completion\": \"056\"}\n", to: file)
        let outcome = try Command.run(["generate", GenerateEvalTests.model, file])
        #expect(outcome.status == 0 && outcome.output.contains("== a\n") && outcome.output.contains("== b\n"), "\(outcome)")
    }

    @Test func aStoreAndADirectoryGiveTheSameFigures() throws {
        let directory = try TemporaryDirectory()
        let store = ["--store", directory.path + "/store"]
        #expect(try Command.run(["init", store[1]]).status == 0)
        #expect(try Command.run(["ingest", GenerateEvalTests.model, "--run", "tiny", "--step", "400"] + store).status == 0)
        #expect(try Command.run(["probe", "add", "sums", GenerateEvalTests.data, "--tokenizer", "tiny@400"] + store).status == 0)
        let more = ["--max-new", "8", "--calibrate", "sums", "--per-sample", "--pass-at", "3"] + store
        var kept = try GenerateEvalTests.result(["tiny", "--data", "sums"] + more)
        var loose = try GenerateEvalTests.result([GenerateEvalTests.model, "--data", GenerateEvalTests.data, "--threads", "1"] + more)
        #expect(kept["step"] as? Int == 400 && loose["step"] is NSNull && kept["samples"] as? Int == 64)
        for name in ["ref", "step"] { (kept[name], loose[name]) = (nil, nil) }
        for name in ["nll", "brier", "ece", "entropy", "mean_p", "temperature", "calibrated_nll", "calibrated_brier", "calibrated_ece"] {
            let values = (try #require(kept[name] as? Double), try #require(loose[name] as? Double))
            #expect(abs(values.0 - values.1) < 1e-5)
            (kept[name], loose[name]) = (nil, nil)
        }
        #expect(NSDictionary(dictionary: kept) == NSDictionary(dictionary: loose))
        let samples = try #require(kept["per_sample"] as? [[String: Any]])
        #expect(samples.count == 64 && samples.count { $0["right"] as? Bool == true } == kept["right"] as? Int)
        #expect(samples.allSatisfy { ($0["right"] as! Bool) == ($0["answer"] as? String == $0["expected"] as? String) })
        #expect(samples[0]["expected"] as? String == "018")
    }

    @Test func theTableShowsEachModelAndNothingIsGeneratedWhereNotAskedFor() throws {
        let models = [100, 400].map { GenerateEvalTests.examples + "/tiny-run/checkpoint-\($0)" }
        let outcome = try Command.run(["eval"] + models + ["--data", GenerateEvalTests.data, "--limit", "5", "--max-new", "6"])
        #expect(outcome.status == 0 && outcome.output.hasPrefix("5 samples, 20 supervised tokens"), "\(outcome)")
        for model in models { #expect(outcome.output.components(separatedBy: model).count == 3) }
        let plain = try GenerateEvalTests.result([GenerateEvalTests.model, "--data", GenerateEvalTests.data, "--no-generate"])
        #expect(plain["accuracy"] is NSNull && plain["right"] is NSNull && plain["nll"] is Double && plain["temperature"] is NSNull)
    }

    @Test func whatMakesNoSenseIsRefused() throws {
        let (model, data) = (GenerateEvalTests.model, GenerateEvalTests.data)
        try GenerateEvalTests.refuses(["generate", model], 64, saying: "a prompt is needed")
        try GenerateEvalTests.refuses(["generate", model, "--prompt", "1", "--top-k", "2"], 64, saying: "need --temperature")
        try GenerateEvalTests.refuses(["generate", model, "--prompt", "1", "--samples", "2"], 64, saying: "needs --temperature")
        try GenerateEvalTests.refuses(["generate", model, "--prompt", "1", "--chat"], 65, saying: "no chat template")
        try GenerateEvalTests.refuses(["generate", "nowhere", "--prompt", "1"], 66, saying: "no")
        try GenerateEvalTests.refuses(["eval", model, "--data", data, "--pattern", "("], 65, saying: "--pattern")
        try GenerateEvalTests.refuses(["eval", model, "--data", data, "--pattern", "x"], 65, saying: "sample \"0\" has no answer")
        try GenerateEvalTests.refuses(["eval", model, "--data", data, "--no-generate", "--pass-at", "2"], 64, saying: "--no-generate")
        let directory = try TemporaryDirectory()
        let file = directory.path + "/d.jsonl"
        try FileTree.write("{\"id\": \"q\", \"input_ids\": [1, 5000], \"completion_start\": 1}\n", to: file)
        try GenerateEvalTests.refuses(["eval", model, "--data", file, "--no-generate"], 65, saying: "sample q: token 5000")
    }
}
