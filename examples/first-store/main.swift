// Makes a store, takes the run in `examples/tiny-run` in, and does with it what a store is for: lists, views, compares, gives back,
// checks, prunes. Run from the root of the checkout:
//
//   swift run first-store DIR       DIR: a directory that is made; nothing may be there yet
//
// The pages in `Sources/*/*.docc` quote it; `tools/docs --check` holds them together.

import CheckpointDiff
import CheckpointStore
import Dispatch

let directory = CommandLine.arguments.dropFirst().first ?? "first-store-example"
let path = directory + "/store"

/// A number with four digits behind the point.
func rounded(_ number: Double) -> Double { (number * 10_000).rounded() / 10_000 }

// Create and open.

try Store.create(at: path)
let store = try Store.open(path)

// Ingest: each checkpoint of the directory in a transaction of its own.

for result in try store.ingest("examples/tiny-run") {
    print("\(result.run)@\(result.step): \(result.rawBytes) bytes, \(result.id.short)")
}

// List.

for entry in try store.history(of: "tiny-run") {
    print("\(entry.run)@\(entry.step): \(entry.tensors) tensors", entry.isHead ? "(head)" : "")
}

// View a tensor in place.

let head = try store.snapshot("tiny-run")
let view = try store.view(of: "model.norm.weight", in: head)
var sum: Float = 0
for block in 0..<view.rowBlockCount {
    try view.withRowBlock(block) { bytes in
        for offset in stride(from: 0, to: bytes.count, by: 4) {
            sum += bytes.loadUnaligned(fromByteOffset: offset, as: Float.self)
        }
    }
}
print("model.norm.weight: \(view.dtype) \(view.shape), mean \(rounded(Double(sum / Float(view.shape[0]))))")

// The same of a snapshot without an image: a reader decodes what is packed, block by block.

let contents = try store.contents("tiny-run@200")
let reader = try contents.makeReader()
for tensor in contents.tensors where tensor.name == "model.norm.weight" {
    for range in tensor.blockRanges {
        try reader.withBytes(of: tensor, range) { bytes in print("\(tensor.name) of \(contents.name): \(bytes.count) bytes") }
    }
}

// Diff two snapshots.

let before = try store.contents("tiny-run~1")
let now = try store.contents("tiny-run")
var delta = try CheckpointDiff.compare(before, now, detail: .full)
for group in delta.groups(by: .kind) {
    print("\(group.name): \(group.tensors) tensors, \(group.delta.changed) of \(group.delta.words) words changed,",
        "relative \(rounded(group.delta.relativeL2))")
}

// Of the matrices that moved: in how many directions.

try delta.addSpectra(before, now, count: 4)
for tensor in delta.compared where tensor.name == "model.embed_tokens.weight" {
    print("\(tensor.name): stable rank \(rounded(tensor.spectrum!.stableRank))")
}

// The way of the whole run.

let stops = try store.history(of: "tiny-run").map { Trajectory.Stop(ref: "\($0.run)@\($0.step)", step: $0.step) }
let way = try Trajectory(of: "tiny-run", snapshots: stops, in: store)
for layer in way.groups(by: .layer) {
    print("\(layer.name): path \(rounded(layer.pathLength)), distance \(rounded(layer.distance))")
}

// A snapshot that is the mean of two.

let mean = try WeightedSum([
    WeightedSum.Term(try store.contents("tiny-run@300"), weight: 0.5), WeightedSum.Term(try store.contents("tiny-run@400"), weight: 0.5),
])
let merged = try store.merge(mean, into: "tiny-run@300", run: "mean", origin: "mean of tiny-run@300 and tiny-run@400")
print("\(merged.run)@\(merged.step)")

// Back to files, the same to the last byte.

let export = try store.export("tiny-run@200", to: directory + "/checkpoint-200")
try store.compare("tiny-run@200", with: "examples/tiny-run/checkpoint-200")
print("\(export.files) files, \(export.bytes) bytes")

// A checkpoint that a program has at hand: files in memory, or on disk under another name.

let note = Array(#"{"from": "a program"}"#.utf8)
let live = try note.withUnsafeBytes { bytes in
    try store.ingest(
        [
            CheckpointFile("model.safetensors", at: "examples/tiny-run/checkpoint-400/model.safetensors"),
            CheckpointFile("note.json", pieces: [bytes]),
        ], run: "live", step: 1)
}
print("\(live.run)@\(live.step): \(live.newBytes) of \(live.rawBytes) bytes were new")

// Names and pins. A pinned snapshot keeps its image and is never dropped; a tagged one stays unless a policy says otherwise.

try store.tag("tiny-run@100", as: "first")
let image = try store.pin("tiny-run@300")
print("image in \(image.dropFirst(store.path.count + 1).prefix(19))")

// Many threads may read at once: the store and contents are shared, each thread has a reader of its own.

let refs = stops.map(\.ref)
DispatchQueue.concurrentPerform(iterations: refs.count) { index in
    do {
        let contents = try store.contents(refs[index])
        let reader = try contents.makeReader()
        for tensor in contents.tensors {
            for range in tensor.blockRanges { try reader.withBytes(of: tensor, range) { _ in } }
        }
    } catch {
        print(error)
    }
}

// A view goes on after its snapshot has gone.

let kept = try store.view(of: "model.norm.weight", in: try store.snapshot("mean"))
try store.remove("mean")
try kept.withRowBlock(0) { bytes in print("\(bytes.count) bytes of a snapshot that was removed") }

// Errors are told apart by their code.

do {
    _ = try store.snapshot("tiny-run@250")
} catch {
    switch error.code {
    case .noSuchRef: print("no such snapshot: \(error.reason)")
    case .locked, .diskFull: print("later, perhaps: \(error)")
    default: throw error
    }
}

// Stop an ingest from outside, and see how far it is.

var again = IngestOptions()
again.run = "again"
let monitor = Monitor(
    progress: { progress in print("\(progress.doneBytes) of \(progress.totalBytes) bytes") },
    isCancelled: { true })
do {
    try store.ingest("examples/tiny-run/checkpoint-100", options: again, monitor: monitor)
} catch {
    guard error.code == .interrupted else { throw error }
    print("stopped; nothing of it is in the store")
}

// Prune: plan first, which changes nothing, then do it.

var policy = RetentionPolicy()
policy.keepLast = 1
let plan = try store.plan(policy, runs: ["tiny-run"])
for row in plan.rows { print("\(row.ref):", row.isKept ? row.reasons.joined(separator: ", ") : "goes") }
let pruned = try store.prune(plan)
print("dropped \(pruned.removed.map { "\($0.run)@\($0.step)" })")

// Check everything that is left.

let report = try Store.verify(path, depth: .full)
print("\(report.snapshots) snapshots, \(report.problems.count) problems")
