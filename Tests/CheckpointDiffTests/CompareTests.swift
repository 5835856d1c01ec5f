import BlockCodec
import CKernels
import Foundation
import Synchronization
import TensorFormats
import TestSupport
import Testing

@testable import CheckpointDiff
@testable import CheckpointStore

@Suite struct CompareTests {
    /// Two versions of a model: tensors of one block and of many, of rows over a block, equal, scalar and empty.
    private static let made: ([Written], [Written]) = {
        var generator = SeededGenerator(seed: 2026)
        let shapes: [(String, DType, [UInt64])] = [
            ("model.embed_tokens.weight", .bf16, [600, 512]), ("model.layers.0.mlp.up_proj.weight", .f32, [3, 70_000]),
            ("model.layers.0.self_attn.q_proj.weight", .f16, [333, 77]), ("model.norm.weight", .f64, [1000]),
            ("steps", .i64, []), ("none", .bf16, [0, 7]), ("mask", .bool, [99]), ("quantised", .f4, [64, 33]),
            ("six", .f6E2M3, [8, 5001]), ("fp8", .f8E5M2, [1000]),
        ]
        let first = shapes.map { name, dtype, shape -> Written in
            let count = Int(dtype.byteCount(shape: shape)!)
            var bytes = generator.bytes(count)
            // Small finite numbers: the top byte of every word.
            let width = dtype.bits / 8
            if width >= 2, dtype != .i64 {
                for index in stride(from: width - 1, to: count, by: width) { bytes[index] = bytes[index] & 0x80 | 0x30 }
            }
            return Written(name: name, dtype: dtype, shape: shape, bytes: bytes)
        }
        let second = first.map { tensor -> Written in
            var tensor = tensor
            for _ in 0..<(tensor.bytes.count / 50) {
                tensor.bytes[generator.below(tensor.bytes.count)] ^= 1 << UInt8(generator.below(4))
            }
            return tensor
        }
        let same = Written.random("same", .bf16, [300, 1000], seed: 5)
        return (first + [same], second + [same])
    }()

    private static func versions() -> ([Written], [Written]) { made }

    @Test func aCheckpointAgainstItself() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.write("a/model.safetensors", Self.versions().0)
        let contents = try CheckpointContents(path: path)
        let delta = try CheckpointDiff.compare(contents, CheckpointContents(path: path))
        #expect(!delta.isDifferent)
        for tensor in delta.compared {
            #expect(tensor.changed == 0 && tensor.signFlips == 0 && tensor.sumDelta == 0 && tensor.maxAbs == 0)
            #expect(tensor.sumFirst == tensor.sumSecond && tensor.relativeL2 == 0, "\(tensor.name)")
            #expect(tensor.cosine == (tensor.sumFirst == 0 ? nil : 1), "\(tensor.name)")
            #expect(tensor.words == DType.elementCount(shape: tensor.shape))
        }
        #expect(delta.compared.count == contents.tensors.count)
    }

    /// One processor or all of them: the same sums to the last bit, time after time.
    @Test(arguments: [DiffDetail.basic, .full])
    func sumsDoNotDependOnThreads(detail: DiffDetail) throws {
        let directory = try TemporaryDirectory()
        let (first, second) = Self.versions()
        let left = try CheckpointContents(path: directory.write("a/model.safetensors", first))
        let right = try CheckpointContents(path: directory.write("b/model.safetensors", second))
        let alone = try withProcessors(1) {
            #expect(ck_processor_count() == 1)
            return try CheckpointDiff.compare(left, right, detail: detail).sums
        }
        #expect(alone.contains { $0.counts[1] > 100 })
        for _ in 0..<4 { #expect(try CheckpointDiff.compare(left, right, detail: detail).sums == alone) }
    }

    /// However both are kept, files, raw blocks, packed blocks or an image, the sums are the same to the last bit.
    @Test(arguments: [Packing.dense, .raw], [false, true])
    func storesAndPathsAgree(packing: Packing, makesImage: Bool) throws {
        let directory = try TemporaryDirectory()
        let (first, second) = Self.versions()
        let paths = [try directory.write("a/model.safetensors", first), try directory.write("b/model.safetensors", second)]
        let contents = try paths.map { try CheckpointContents(path: $0) }
        let wanted = try CheckpointDiff.compare(contents[0], contents[1])
        let sums = Dictionary(uniqueKeysWithValues: wanted.sums.map { ($0.name, $0) })

        try Store.create(at: directory.path + "/store")
        let store = try Store.open(directory.path + "/store")
        var options = IngestOptions()
        options.run = "r"
        options.packing = packing
        options.makesImage = makesImage
        for (step, path) in paths.enumerated() {
            options.step = UInt64(step)
            let result = try store.ingest(path, options: options)
            #expect((result.first?.image != nil) == makesImage)
        }
        let stored = try [store.contents("r@0"), store.contents("r@1")]
        let inStore = try CheckpointDiff.compare(stored[0], stored[1])
        #expect(Set(inStore.identical.map(\.name)) == ["same", "none", "steps"])
        #expect(inStore.mismatched.isEmpty && inStore.isDifferent)
        for tensor in inStore.sums { #expect(tensor == sums[tensor.name]) }
        #expect(inStore.compared.count + inStore.identical.count == wanted.compared.count)

        // A path against a snapshot: no tensor is known to be equal, and all are compared.
        for delta in try [CheckpointDiff.compare(contents[0], stored[1]), CheckpointDiff.compare(stored[0], contents[1])] {
            #expect(delta.sums == wanted.sums)
        }
        let same = try CheckpointDiff.compare(stored[1], contents[1])
        #expect(!same.isDifferent && same.identical.isEmpty)
        let known = try CheckpointDiff.compare(stored[0], store.contents("r@0"))
        #expect(known.compared.isEmpty && known.identical.count == first.count && !known.isDifferent)
    }

    /// Of a history packed as deltas, a block of one snapshot is often among what that of the other is packed against.
    @Test func historiesAreReadThroughTheirDeltas() throws {
        var history = try History()
        var generator = SeededGenerator(test: "historiesAreReadThroughTheirDeltas")
        var tensors = Self.versions().0
        for _ in 0..<14 {
            for index in tensors.indices where index % 3 != 2 {
                for _ in 0..<(tensors[index].bytes.count / 20) { tensors[index].bytes[generator.below(tensors[index].bytes.count)] ^= 1 }
            }
            try history.add(tensors)
        }
        for (a, b) in [(0, 1), (1, 0), (0, 13), (13, 0), (5, 6), (6, 12), (11, 4), (7, 8), (3, 9)] {
            let wanted = try CheckpointDiff.compare(history.file(a), history.file(b), detail: .full)
            let found = try CheckpointDiff.compare(history.snapshot(a), history.snapshot(b), detail: .full)
            let sums = Dictionary(uniqueKeysWithValues: wanted.sums.map { ($0.name, $0) })
            #expect(found.compared.count > 5)
            for tensor in found.sums { #expect(tensor == sums[tensor.name], "\(a) and \(b), seed \(generator.seed)") }
        }
    }

    /// A history that begins with blocks kept raw, whose updates go on and on the same way, so that each is packed against two: none of its
    /// blocks is decoded twice, and few are remembered.
    @Test func historiesOnRawBlocks() throws {
        var history = try History()
        var generator = SeededGenerator(test: "historiesOnRawBlocks")
        let drift = (0..<(300 * 1024)).map { _ in Int32(generator.below(400)) }
        var words = drift.map { _ in Int32(truncatingIfNeeded: Int64(bitPattern: generator.next())) }
        for step in 0..<5 {
            history.options.packing = step == 0 ? .raw : .delta
            try history.add([Written(name: "w", dtype: .i32, shape: [300, 1024], bytes: words.withUnsafeBytes { Array($0) })])
            for index in words.indices { words[index] &+= drift[index] }
        }
        for (a, b) in [(0, 1), (1, 2), (2, 3), (1, 4), (4, 0)] {
            let recent = RecentBlocks()
            let (first, second) = (try history.snapshot(a), try history.snapshot(b))
            let (left, right) = (try first.makeReader(remembering: recent), try second.makeReader(remembering: recent))
            for range in first.tensors[0].blockRanges {
                try left.withBytes(of: first.tensors[0], range) { left in
                    try right.withBytes(of: second.tensors[0], range) { right in
                        for index in stride(from: 0, to: range.count, by: 4096) {
                            let word = Int(range.lowerBound) / 4 + index / 4
                            let moved = right.loadUnaligned(fromByteOffset: index, as: Int32.self) &- left.loadUnaligned(fromByteOffset: index, as: Int32.self)
                            #expect(moved == drift[word] &* Int32(b - a))
                        }
                    }
                }
                #expect(recent.count <= 16)
            }
            let wanted = try CheckpointDiff.compare(history.file(a), history.file(b))
            #expect(try CheckpointDiff.compare(first, second).sums == wanted.sums)
        }
    }

    /// Of blocks that are known to be equal one side is read: the other's image may hold anything there.
    @Test func equalBlocksAreReadOnce() throws {
        var history = try History()
        history.options.makesImage = true
        history.options.pin = true
        var tensor = Written.random("w", .bf16, [1000, 512], seed: 8)
        for index in stride(from: 1, to: tensor.bytes.count, by: 2) { tensor.bytes[index] = tensor.bytes[index] & 0x80 | 0x30 }
        try history.add([tensor])
        tensor.bytes[900 * 1024] ^= 1
        try history.add([tensor])
        let (first, second) = (try history.snapshot(0), try history.snapshot(1))
        #expect(first.isMapped && second.isMapped)
        let wanted = try CheckpointDiff.compare(history.file(0), history.file(1), detail: .full)
        #expect(try CheckpointDiff.compare(first, second, detail: .full).sums == wanted.sums)
        #expect(wanted.compared[0].changed == 1)
        // In place, so that the file is the one that is mapped.
        let image = try history.store.imageDirectory(of: "r@1") + "/model.safetensors"
        chmod(image, 0o644)
        let file = try #require(fopen(image, "r+"))
        fseek(file, -tensor.bytes.count, SEEK_END)
        let zeros = [UInt8](repeating: 0, count: 4096)
        fwrite(zeros, 1, zeros.count, file)
        fclose(file)
        #expect(try CheckpointDiff.compare(first, second, detail: .full).sums == wanted.sums)
    }

    /// Rows that are cut between blocks, or many to a block, or hardly any: norms by row and column against plain sums.
    @Test(arguments: [[3, 70_001], [2, 150_000], [5000, 3], [70_000, 2], [40, 50, 60], [1, 300_000]] as [[UInt64]], [DType.f32, .bf16, .f8E5M2])
    func normsAcrossBlocks(shape: [UInt64], dtype: DType) throws {
        var generator = SeededGenerator(test: "normsAcrossBlocks \(shape) \(dtype)")
        let width = dtype.bits / 8, count = Int(DType.elementCount(shape: shape)!)
        var sides = [generator.bytes(count * width), generator.bytes(count * width)]
        for side in 0...1 {
            for index in stride(from: width - 1, to: count * width, by: width) { sides[side][index] = sides[side][index] & 0x80 | 0x30 }
        }
        func value(_ side: Int, _ word: Int) -> Double {
            sides[side].withUnsafeBytes { bytes in
                switch dtype {
                case .f32: Double(bytes.loadUnaligned(fromByteOffset: 4 * word, as: Float.self))
                case .bf16: Double(Float(bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: 2 * word, as: UInt16.self)) << 16))
                default: ElementValue.value(UInt64(bytes[word]), dtype)
                }
            }
        }
        let columns = Int(shape.last!)
        var (rowSums, columnSums) = ([Double](repeating: 0, count: count / columns), [Double](repeating: 0, count: columns))
        for word in 0..<count {
            let d = value(1, word) - value(0, word)
            rowSums[word / columns] += d * d
            columnSums[word % columns] += d * d
        }
        let directory = try TemporaryDirectory()
        let paths = try (0...1).map { try directory.write("\($0)/model.safetensors", [Written(name: "w", dtype: dtype, shape: shape, bytes: sides[$0])]) }
        let movement = try #require(
            try CheckpointDiff.compare(CheckpointContents(path: paths[0]), CheckpointContents(path: paths[1]), detail: .full).compared[0].movement)
        func agree(_ found: [Double]?, _ wanted: [Double]) -> Bool {
            found?.count == wanted.count && zip(found!, wanted).allSatisfy { abs($0 - $1.squareRoot()) <= 1e-9 * $1.squareRoot() }
        }
        #expect(agree(movement.rows, rowSums) && agree(movement.columns, columnSums), "seed \(generator.seed)")
    }

    /// Tensors of one name in two files are two.
    @Test func sameNamesInTwoFiles() throws {
        let directory = try TemporaryDirectory()
        func tensor(_ byte: UInt8) -> Written { Written(name: "w", dtype: .f32, shape: [2, 2], bytes: [UInt8](repeating: byte, count: 16)) }
        for (side, bytes) in [("a", [1, 2]), ("b", [1, 3])] as [(String, [UInt8])] {
            try directory.write("\(side)/model-00001-of-00002.safetensors", [tensor(bytes[0])])
            try directory.write("\(side)/model-00002-of-00002.safetensors", [tensor(bytes[1])])
        }
        let sides = try ["a", "b"].map { try CheckpointContents(path: directory.path + "/" + $0) }
        var delta = try CheckpointDiff.compare(sides[0], sides[1], detail: .full)
        try delta.addSpectra(sides[0], sides[1], count: 2)
        let groups = delta.groups(by: .tensor)
        #expect(groups.count == 2 && groups.map(\.delta.changed).sorted() == [0, 4])
        #expect(groups.filter { $0.delta.spectrum != nil }.map(\.delta.changed) == [4])
        #expect(delta.groups(by: .kind).first?.delta.spectrum == nil)
    }

    /// Shards moved between files are still one model.
    @Test func shardsAreOneModel() throws {
        let directory = try TemporaryDirectory()
        let (first, second) = Self.versions()
        try directory.write("a/model-00001-of-00002.safetensors", Array(first[..<3]))
        try directory.write("a/model-00002-of-00002.safetensors", Array(first[3...]))
        try directory.write("b/model-00001-of-00002.safetensors", Array(second[..<6]))
        try directory.write("b/model-00002-of-00002.safetensors", Array(second[6...]))
        let whole = [try directory.write("c/model.safetensors", first), try directory.write("d/model.safetensors", second)]
        let wanted = try CheckpointDiff.compare(CheckpointContents(path: whole[0]), CheckpointContents(path: whole[1]))
        let sharded = try CheckpointDiff.compare(
            CheckpointContents(path: directory.path + "/a"), CheckpointContents(path: directory.path + "/b"))
        #expect(sharded.mismatched.isEmpty)
        #expect(Set(sharded.sums.map(\.description)) == Set(wanted.sums.map(\.description)))
    }

    /// Complex numbers of doubles have no name in safetensors: two words each.
    @Test func complexNumbersAreTwoWords() {
        let first: [Double] = [1, -2, 3, 4], second: [Double] = [1, 2, 3, 1e3]
        var comparison = TensorComparison(.c128)
        first.withUnsafeBytes { left in second.withUnsafeBytes { right in comparison.add(left, right) } }
        #expect(comparison.movement.sums.changed == 2 && comparison.movement.sums.sign_flips == 1)
        #expect(comparison.movement.sums.sum_aa == 30 && comparison.movement.sums.sum_bb == 14 + 1e6)
        #expect(comparison.movement.sums.sum_dd == 16 + 996 * 996 && comparison.movement.sums.max_abs == 996)
        let entry = TensorEntry(
            name: "c", file: "f", part: .weights, dtype: .c128, shape: [2], strides: nil, storage: nil, storageOffset: 0,
            fileOffset: 0)
        #expect(WeightDelta(entry).words == 4)
    }

    @Test func progressGoesToTheEnd() throws {
        let directory = try TemporaryDirectory()
        let (first, second) = Self.versions()
        let left = try CheckpointContents(path: directory.write("a/model.safetensors", first))
        let right = try CheckpointContents(path: directory.write("b/model.safetensors", second))
        var seen: [(UInt64, UInt64)] = []
        _ = try CheckpointDiff.compare(left, right) { seen.append(($0.doneBytes, $0.totalBytes)) }
        let total = first.reduce(0) { $0 + UInt64($1.bytes.count) }
        #expect(seen.last?.0 == total && seen.allSatisfy { $0.1 == total })
        #expect(zip(seen, seen.dropFirst()).allSatisfy { $0.0 < $1.0 })
    }

    @Test func cancelledComparisonsThrow() throws {
        let directory = try TemporaryDirectory()
        let (first, second) = Self.versions()
        let left = try CheckpointContents(path: directory.write("a/model.safetensors", first))
        let right = try CheckpointContents(path: directory.write("b/model.safetensors", second))
        let error = #expect(throws: StoreError.self) {
            try CheckpointDiff.compare(left, right, monitor: Monitor(isCancelled: { true }))
        }
        #expect(error?.code == .interrupted)
    }

    /// A file that shrinks after it was opened is an error, not a crash.
    @Test func filesCutAfterTheirHeaderWasRead() throws {
        let directory = try TemporaryDirectory()
        let (first, _) = Self.versions()
        let path = try directory.write("a/model.safetensors", first)
        let left = try CheckpointContents(path: path)
        let right = try CheckpointContents(path: directory.write("b/model.safetensors", first))
        try FileHandle(forWritingTo: URL(filePath: path)).truncate(atOffset: 5000)
        #expect(throws: StoreError.self) { try CheckpointDiff.compare(left, right) }
    }
}
