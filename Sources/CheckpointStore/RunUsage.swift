internal import LMDB

/// What one run holds and takes.
public struct RunStats: Sendable {
    public var run: String
    /// Its steps.
    public var snapshots: Int
    /// Bytes of their files, as ingested.
    public var rawBytes: UInt64
    /// Packed bytes of the blocks that no other run uses: what its removal would free.
    public var packedBytes: UInt64
    /// Packed bytes of the blocks that other runs use too.
    public var sharedBytes: UInt64
    /// Bytes of its snapshots' images.
    public var imageBytes: UInt64
}

/// Which runs use which blocks: through their snapshots' tensors, and through blocks packed against others.
///
/// Some 20 bytes of memory for each block and 12 for each tensor.
struct RunUsage {
    /// Marks on a block beside the number of the run that reached it last, which counts from 1.
    private static let isShared: UInt32 = 1 << 31
    private static let isInTensor: UInt32 = 1 << 30
    private static let runMask = isInTensor - 1

    private let blocks: BlockGraph
    private var marks: [UInt32]
    private let tensors: IDNumbers
    /// The run that reached each tensor last.
    private var tensorRuns: [UInt32]
    private var runs: [RunStats] = []

    init<T: Transaction & ~Copyable>(_ blocks: BlockGraph, _ transaction: borrowing T, _ tables: Tables) throws {
        self.blocks = blocks
        marks = [UInt32](repeating: 0, count: blocks.count)
        var tensors = IDNumbers()
        try transaction.counts(tables, .tensor) { id, _ in tensors.append(id) }
        tensorRuns = [UInt32](repeating: 0, count: tensors.count)
        self.tensors = tensors
    }

    /// Follows the snapshots of a run down to their blocks. O(parts + tensors + blocks of the run).
    mutating func follow<T: Transaction & ~Copyable>(
        _ run: String, _ steps: [StepRecord], _ transaction: borrowing T, _ tables: Tables
    ) throws {
        var stats = RunStats(run: run, snapshots: steps.count, rawBytes: 0, packedBytes: 0, sharedBytes: 0, imageBytes: 0)
        let number = UInt32(runs.count + 1)
        var seen: Set<ContentID> = []
        for step in steps {
            guard let record = try transaction.snapshotRecord(tables, step.snapshot) else { continue }
            stats.rawBytes += record.rawBytes
            for entry in record.here where seen.insert(entry.id).inserted {
                for tensor in try transaction.partManifest(tables, entry.id)?.uses ?? [] {
                    guard let index = tensors.number(of: tensor), tensorRuns[index] != number else { continue }
                    tensorRuns[index] = number
                    for block in try transaction.tensorRecord(tables, tensor)?.blocks ?? [] {
                        guard let block = blocks.number(of: block) else { continue }
                        stats.sharedBytes += reach(block, by: number)
                        marks[block] |= RunUsage.isInTensor
                    }
                }
            }
        }
        runs.append(stats)
    }

    /// Marks a block and its bases. Returns the packed bytes of those that the run had not reached.
    private mutating func reach(_ block: Int, by run: UInt32) -> UInt64 {
        var bytes: UInt64 = 0
        var next: Int? = block
        while let block = next, marks[block] & RunUsage.runMask != run {
            let isShared = marks[block] & RunUsage.runMask != 0 || marks[block] & RunUsage.isShared != 0
            marks[block] = run | marks[block] & RunUsage.isInTensor | (isShared ? RunUsage.isShared : 0)
            bytes += UInt64(blocks.packedBytes[block])
            next = blocks.base(of: block)
        }
        return bytes
    }

    /// The runs, and the blocks that are only there as bases.
    var result: (runs: [RunStats], hiddenBlocks: Int, hiddenBytes: UInt64) {
        var runs = runs
        var (hiddenBlocks, hiddenBytes) = (0, UInt64(0))
        for (mark, bytes) in zip(marks, blocks.packedBytes) {
            let run = Int(mark & RunUsage.runMask)
            // Blocks that no run reaches are staged, or waiting for their release.
            guard run > 0 else { continue }
            if mark & RunUsage.isInTensor == 0 {
                hiddenBlocks += 1
                hiddenBytes += UInt64(bytes)
            }
            if mark & RunUsage.isShared == 0 {
                runs[run - 1].packedBytes += UInt64(bytes)
                runs[run - 1].sharedBytes -= UInt64(bytes)
            }
        }
        return (runs, hiddenBlocks, hiddenBytes)
    }
}
