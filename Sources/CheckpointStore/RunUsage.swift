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
/// Filled in three steps: blocks and tensors in the order of their ids, then bases, then run after run. Some 20 bytes of
/// memory for each block and 12 for each tensor.
struct RunUsage {
    /// Marks on a block beside the number of the run that reached it last, which counts from 1.
    private static let isShared: UInt32 = 1 << 31
    private static let isInTensor: UInt32 = 1 << 30
    private static let runMask = isInTensor - 1
    private static let none = UInt32.max

    private var blocks = IDNumbers()
    private var packedBytes: [UInt32] = []
    private var marks: [UInt32] = []
    /// The first base of each block. The second one is that base's own first, so the chain names all of them. Empty while
    /// no block has one.
    private var bases: [UInt32] = []
    private var tensors = IDNumbers()
    /// The run that reached each tensor last.
    private var tensorRuns: [UInt32] = []
    private var runs: [RunStats] = []

    mutating func addBlock(_ id: ContentID, packedBytes: UInt32) {
        blocks.append(id)
        self.packedBytes.append(packedBytes)
        marks.append(0)
    }

    mutating func addTensor(_ id: ContentID) {
        tensors.append(id)
        tensorRuns.append(0)
    }

    /// Notes what the block is packed against, when all blocks are there.
    mutating func setBases(_ ids: [ContentID], of id: ContentID) {
        guard let block = blocks.number(of: id), let base = ids.first.flatMap({ blocks.number(of: $0) }) else { return }
        if bases.isEmpty { bases = [UInt32](repeating: RunUsage.none, count: blocks.count) }
        bases[block] = UInt32(base)
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
        var block = block
        while marks[block] & RunUsage.runMask != run {
            let isShared = marks[block] & RunUsage.runMask != 0 || marks[block] & RunUsage.isShared != 0
            marks[block] = run | marks[block] & RunUsage.isInTensor | (isShared ? RunUsage.isShared : 0)
            bytes += UInt64(packedBytes[block])
            guard !bases.isEmpty, bases[block] != RunUsage.none else { break }
            block = Int(bases[block])
        }
        return bytes
    }

    /// The runs, and the blocks that are only there as bases.
    var result: (runs: [RunStats], hiddenBlocks: Int, hiddenBytes: UInt64) {
        var runs = runs
        var (hiddenBlocks, hiddenBytes) = (0, UInt64(0))
        for (mark, bytes) in zip(marks, packedBytes) {
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
