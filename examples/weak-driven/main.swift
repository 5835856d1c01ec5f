// Runs the models of `examples/tiny-run` on `examples/sums.jsonl`, ranks the earlier ones by what they can still teach the last one,
// weighs the samples by it, and trains the last one on with the best of them mixed in. Run from the root of the checkout:
//
//   swift run weak-driven DIR       DIR: a directory that is made; nothing may be there yet
//
// The pages in `Sources/*/*.docc` quote it; `tools/docs --check` holds them together.

import CheckpointStore
import LanguageModel
import WeakTraining

let directory = CommandLine.arguments.dropFirst().first ?? "weak-driven-example"
let path = directory + "/store"

/// A number with three digits behind the point.
func rounded(_ number: Double) -> Double { (number * 1000).rounded() / 1000 }

try Store.create(at: path)
let store = try Store.open(path)
try store.ingest("examples/tiny-run")

// Open a model where its weights are, and its tokenizer.

let contents = try store.contents("tiny-run@400").decodedAhead()
let model = try LanguageModel(contents, longest: 64)
let tokenizer = try SampleTokenizer(contents.sidecars)
print("\(model.modelType): \(model.layerCount) layers, \(model.vocabularySize) tokens")

// Continue a text.

let request = GenerationRequest(tokens: tokenizer.prompt("07+11="))
let options = GenerationOptions(maximumNew: 8, ends: Set(tokenizer.ends))
let made = try model.generate([request], options)[0]
let text = tokenizer.tokenizer.decode(made.tokens.filter { !options.ends.contains($0) })
print("07+11=\(text), stopped by \(made.stop)")

// How sure it is of each token of a completion, in nats.

let tokens = tokenizer.tokenizer.encode("07+11=018", addSpecialTokens: true)
let sample = ScoringSample(tokens: tokens, supervised: [6..<tokens.count])
let outputs = try model.score([sample])[0]
print("entropies \(outputs.entropy.map { rounded(Double($0)) }), losses \(outputs.nll.map { rounded(Double($0)) })")

// Keep a probe: the samples that snapshots are compared on.

let lines = try ProbeFile.read("examples/sums.jsonl")
let sums = try Probe(lines: lines, tokenizer: tokenizer.id, piece: tokenizer.piece) { line in try tokenizer.sample(line) }
let probeID = try store.addProbe(sums, name: "sums")
let probe = try ScoredProbe(store, "sums", maximumLength: 4096)
print("\(sums.samples.count) samples; unigram loss \(rounded(probe.unigramNLL))")

// Entropies of a snapshot on it: computed once, and kept in the store.

func means(of ref: String) throws -> [SampleMeans] {
    let evaluation = try EntropyEvaluation(store, ref, probe, ScoringOptions())
    if try !evaluation.isKept() {
        try evaluation.run(try evaluation.openModel(), isStopped: { false }, progress: { _ in })
    }
    return try evaluation.outputs()
}

// Which earlier snapshot can still teach the last one?

let strong = try means(of: "tiny-run@400")
let earlier = try store.history(of: "tiny-run").filter { !$0.isHead }
let candidates = try earlier.map { entry in
    let means = try means(of: "tiny-run@\(entry.step)")
    let tokens = means.reduce(0) { $0 + $1.tokens }
    let loss = means.reduce(0) { $0 + $1.nll * Double($1.tokens) }
    return GapValue.Candidate(entropy: means.map(\.entropy), meanNLL: loss / Double(tokens))
}
let gap = GapValue(strong: strong.map(\.entropy), candidates: candidates, unigramNLL: probe.unigramNLL)
for row in gap.rows {
    print("tiny-run@\(earlier[row.candidate].step): gap value \(rounded(row.value.mean)), guard \(row.guarding)")
}

// Weights that samples are drawn by, from the entropies of both.

let weak = earlier[gap.best!]
let weakMeans = try means(of: "tiny-run@\(weak.step)")
let curriculum = Curriculum(try Selection("code"))
let weights = try curriculum.weights(ids: strong.map(\.id), weak: weakMeans.map(\.entropy), strong: strong.map(\.entropy))
let heaviest = weights.indices.max { weights[$0] < weights[$1] }!
print("drawn most often: \(sums.samples[heaviest].prompt!)")

// Train the last one on, with the weak one mixed in. Stopped or killed, the same lines go on.

let recipe = try Recipe(.frozenWeak)
let plan = try TrainingPlan(recipe, learningRate: LearningRate(peak: 2e-3), length: .steps(80), batchSize: 16)
let settings = TrainingSettings(
    run: "taught", plan: plan, start: .snapshot(try store.snapshot("tiny-run").id), weaks: [weak.id], data: probeID, saveInterval: 40)
let host = TrainerHost(
    entropies: { snapshot in try means(of: "\(snapshot)").map(\.entropy) },
    saved: { snapshot in print("saved \(snapshot.ref)") })
try Trainer(store, settings, host).train()

let taught = try means(of: "taught")
func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
print("loss \(rounded(mean(strong.map(\.nll)))), taught \(rounded(mean(taught.map(\.nll))))")
