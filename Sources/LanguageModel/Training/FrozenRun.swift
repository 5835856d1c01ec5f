internal import CKernels
internal import Synchronization

/// A model that is not trained, run over the sequences of a micro-batch: weights stay where they are.
///
/// Each thread takes whole sequences.
final class FrozenRun {
    let model: LanguageModel
    private let team: ThreadTeam
    private let passes: [ForwardPass]
    private let hiddenBuffer = FloatBuffer()
    /// Tokens that a thread takes at once, a sequence at least.
    private let batchTokens: Int
    private let failure = Mutex<LanguageModelError?>(nil)

    /// - Parameter bytes: memory it may take, as far as batches of 256 to 1,024 tokens allow: larger ones are quicker.
    init(_ model: LanguageModel, _ team: ThreadTeam, bytes: Int) throws(LanguageModelError) {
        self.model = model
        self.team = team
        let architecture = model.architecture
        let perToken = 4 * (architecture.width + architecture.projections + architecture.chunkColumns)
        batchTokens = min(ForwardPass.chunkRows, max(256, bytes / team.count / perToken))
        var passes: [ForwardPass] = []
        for _ in 0..<team.count { passes.append(try ForwardPass(model.contents)) }
        self.passes = passes
    }

    /// The last norm's output for the scored rows of sequences `range` of a batch, (rows, D). `scored` is in the batch's order.
    func run(_ batch: Batch, _ range: Range<Int>, _ scored: ArraySlice<Int>) throws(LanguageModelError) -> Matrix {
        let hidden = hiddenBuffer.matrix(scored.count, model.architecture.width)
        let sequences = batch.sequences[range]
        let (first, last) = (sequences.first?.lowerBound ?? 0, sequences.last?.upperBound ?? 0)
        team.run { thread in
            // The sequences whose middle lies in this thread's share of the tokens.
            func share(_ thread: Int) -> Int { first + (last - first) * thread / team.count }
            let mine = sequences.filter {
                let middle = ($0.lowerBound + $0.upperBound) / 2
                return middle >= share(thread) && (middle < share(thread + 1) || thread + 1 == team.count)
            }
            do {
                var next = mine.startIndex
                while next < mine.endIndex {
                    let start = mine[next].lowerBound
                    var part = Batch()
                    repeat {
                        part.append(batch.tokens[mine[next]])
                        next += 1
                    } while next < mine.endIndex && mine[next].upperBound - start <= batchTokens
                    try run(part, at: start, passes[thread], scored, hidden)
                }
            } catch {
                failure.withLock { $0 = error as? LanguageModelError ?? LanguageModelError(.failed, "\(error)") }
            }
        }
        try check()
        return hidden
    }

    /// Runs sequences that begin at `start` of the whole batch, and leaves their rows of `scored` in `hidden`.
    private func run(
        _ part: Batch, at start: Int, _ pass: ForwardPass, _ scored: ArraySlice<Int>, _ hidden: Matrix
    ) throws(LanguageModelError) {
        try model.run(part, pass)
        let end = start + part.tokens.count
        let rows = scored.indices.filter { scored[$0] >= start && scored[$0] < end }
        guard let firstRow = rows.first else { return }
        let out = hidden[rows: firstRow - scored.startIndex..<firstRow - scored.startIndex + rows.count]
        for (index, row) in rows.enumerated() {
            out.row(index).update(from: pass.stream.row(scored[row] - start), count: out.columns)
        }
        model.architecture.finish(out, pass, into: out)
    }

    /// out (rows, V) = the logits of rows of what `run` returned.
    func logits(_ hidden: Matrix, into out: Matrix) throws(LanguageModelError) {
        let weight = model.architecture.head.weight
        team.run { thread in
            // Whole strips for each thread but the last.
            func share(_ thread: Int) -> Int { thread == team.count ? weight.rows : weight.rows * thread / team.count / 32 * 32 }
            let tokens = share(thread)..<share(thread + 1)
            guard !tokens.isEmpty else { return }
            do {
                let part = out[columns: tokens]
                try passes[thread].product.multiply(hidden, weight, rows: tokens, into: part)
                if let cap = model.architecture.logitCap {
                    for row in 0..<part.rows { passes[thread].kernels.soft_cap(part.row(row), part.columns, cap) }
                }
            } catch {
                failure.withLock { $0 = error as? LanguageModelError ?? LanguageModelError(.failed, "\(error)") }
            }
        }
        try check()
    }

    private func check() throws(LanguageModelError) {
        if let failure = failure.withLock({ $0 }) { throw failure }
    }
}
