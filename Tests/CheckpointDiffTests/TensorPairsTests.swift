import Foundation
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

@Suite struct TensorPairsTests {
    private func entry(
        _ name: String, file: String = "model.safetensors", part: PartKind = .weights, dtype: DType = .bf16,
        shape: [UInt64] = [4, 4], storage: UInt8? = nil, offset: UInt64 = 0
    ) -> TensorEntry {
        TensorEntry(
            name: name, file: file, part: part, dtype: dtype, shape: shape, strides: nil,
            storage: storage.map { ContentID.hash(of: [$0]) }, storageOffset: offset, fileOffset: 0)
    }

    private func reasons(_ pairs: TensorPairs) -> [String] {
        pairs.mismatched.map { "\($0.name) \($0.reason.rawValue)" }
    }

    @Test func everyWayTwoCheckpointsCanDiffer() {
        let first = [
            entry("kept"), entry("removed"), entry("reshaped"), entry("retyped"), entry("both"),
            entry("flattened", shape: [16]),
        ]
        let second = [
            entry("added"), entry("both", dtype: .f32, shape: [16]), entry("flattened", shape: [4, 4]), entry("kept"),
            entry("reshaped", shape: [4, 8]), entry("retyped", dtype: .f16),
        ]
        let pairs = TensorPairs(first, second)
        #expect(pairs.different.map(\.first.name) == ["kept"])
        #expect(pairs.different.map(\.second.name) == ["kept"])
        #expect(pairs.identical.isEmpty)
        #expect(reasons(pairs) == ["removed removed", "reshaped reshaped", "retyped retyped", "both reshaped", "flattened reshaped", "added added"])
        for mismatch in pairs.mismatched {
            #expect((mismatch.first != nil) == (mismatch.reason != .added))
            #expect((mismatch.second != nil) == (mismatch.reason != .removed))
        }
        // Seen from the other side, added is removed.
        let back = TensorPairs(second, first)
        #expect(Set(reasons(back)) == ["removed added", "reshaped reshaped", "retyped retyped", "both reshaped", "flattened reshaped", "added removed"])
    }

    @Test func nothingToPair() {
        let none = TensorPairs([], [])
        #expect(none.different.isEmpty && none.identical.isEmpty && none.mismatched.isEmpty)
        #expect(reasons(TensorPairs([entry("a")], [])) == ["a removed"])
        #expect(reasons(TensorPairs([], [entry("a")])) == ["a added"])
    }

    /// Only the same bytes of the same stored tensor, seen in the same way, are known to be equal.
    @Test func identityNeedsEverything() {
        let stored = entry("a", storage: 1)
        #expect(TensorPairs([stored], [stored]).identical.count == 1)
        #expect(TensorPairs([stored], [entry("a", storage: 2)]).different.count == 1)
        #expect(TensorPairs([stored], [entry("a", storage: 1, offset: 8)]).different.count == 1)
        #expect(TensorPairs([stored], [entry("a")]).different.count == 1)
        #expect(TensorPairs([entry("a")], [entry("a")]).different.count == 1)
        #expect(reasons(TensorPairs([stored], [entry("a", dtype: .f16, storage: 1)])) == ["a retyped"])
        #expect(reasons(TensorPairs([stored], [entry("a", shape: [16], storage: 1)])) == ["a reshaped"])
        // In another file it is the same tensor.
        #expect(TensorPairs([stored], [entry("a", file: "other.safetensors", storage: 1)]).identical.count == 1)
    }

    /// A tensor may move between shards. Where one name stands in several files, the file tells them apart.
    @Test func namesInSeveralFiles() {
        let moved = TensorPairs(
            [entry("a", file: "1.safetensors"), entry("b", file: "1.safetensors")],
            [entry("a", file: "1.safetensors"), entry("b", file: "2.safetensors")])
        #expect(moved.different.count == 2 && moved.mismatched.isEmpty)

        let twice = TensorPairs(
            [entry("a", file: "1.safetensors"), entry("a", file: "2.safetensors", shape: [2])],
            [entry("a", file: "2.safetensors", shape: [2]), entry("a", file: "1.safetensors"), entry("a", file: "3.safetensors")])
        #expect(twice.different.map(\.first.file) == ["1.safetensors", "2.safetensors"])
        #expect(twice.different.map(\.second.file) == ["1.safetensors", "2.safetensors"])
        #expect(reasons(twice) == ["a added"])
        #expect(twice.mismatched.first?.second?.file == "3.safetensors")

        // Repeated on one side only: the file decides all the same.
        let once = TensorPairs([entry("a", file: "2.safetensors")], [entry("a", file: "1.safetensors"), entry("a", file: "2.safetensors")])
        #expect(once.different.map(\.second.file) == ["2.safetensors"] && reasons(once) == ["a added"])
    }

    /// A weight and an optimizer's state of one name are two tensors.
    @Test func partsAreApart() {
        let pairs = TensorPairs(
            [entry("a", part: .weights), entry("b", part: .weights)],
            [entry("a", file: "optimizer.pt", part: .optimizer), entry("b", part: .weights)])
        #expect(pairs.different.map(\.first.name) == ["b"])
        #expect(Set(reasons(pairs)) == ["a removed", "a added"])
    }

    /// Names are bytes: letters that look alike are not one.
    @Test func namesAreComparedByteByByte() {
        let composed = "caf\u{E9}", decomposed = "cafe\u{301}"
        let pairs = TensorPairs([entry(composed)], [entry(decomposed)])
        #expect(Set(pairs.mismatched.map(\.reason)) == [.added, .removed])
        let both = TensorPairs([entry(composed), entry(decomposed)], [entry(decomposed), entry(composed)])
        #expect(both.different.count == 2 && both.mismatched.isEmpty)
    }
}
