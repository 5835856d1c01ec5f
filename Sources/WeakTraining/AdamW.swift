#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

internal import CKernels
public import LanguageModel

/// AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over one model or both branches of a pair, as torch.optim.AdamW takes its
/// steps: decoupled decay, bias corrections, one clip over the norm of all gradients together.
///
/// Norms are added up in double over pieces of one size, so results do not depend on the number of threads.
public final class AdamW {
    /// As torch.optim.AdamW names them.
    public struct Settings: Sendable, Equatable {
        public var beta1 = 0.9
        public var beta2 = 0.999
        public var epsilon = 1e-8
        /// Of matrices; norms and biases never decay.
        public var decay = 0.0
        /// The largest norm of all gradients together; greater ones are scaled down to it. Nil: no limit.
        public var clip: Double? = 1

        public init() {}
    }

    /// First and second moments of one model's weights, in the layout of its parameters.
    package struct Moments {
        package let count: Int
        private let firstBuffer: FloatBuffer
        private let secondBuffer: FloatBuffer
        package var first: UnsafeMutablePointer<Float> { firstBuffer.data }
        package var second: UnsafeMutablePointer<Float> { secondBuffer.data }

        init(_ count: Int) {
            self.count = count
            firstBuffer = FloatBuffer(capacity: count)
            secondBuffer = FloatBuffer(capacity: count)
            first.update(repeating: 0, count: count)
            second.update(repeating: 0, count: count)
        }
    }

    public let settings: Settings
    /// Steps taken.
    public private(set) var step: Int
    package let models: [(model: TrainedModel, moments: Moments)]
    private let team: ThreadTeam
    private let kernels = ck_active_backward_kernels().pointee
    /// What is gone through at a time: (model, floats).
    private let pieces: [(model: Int, range: Range<Int>)]

    private static let pieceFloats = 1 << 16

    /// Fresh: all moments zero.
    ///
    /// - Parameter step: how many steps were taken before; the moments then are to be filled in.
    public init(_ models: [TrainedModel], _ settings: Settings, _ team: ThreadTeam, step: Int = 0) {
        self.settings = settings
        self.step = step
        self.team = team
        self.models = models.map { ($0, Moments($0.parameters.count)) }
        pieces = models.indices.flatMap { model in
            stride(from: 0, to: models[model].parameters.count, by: AdamW.pieceFloats).map {
                (model, $0..<min($0 + AdamW.pieceFloats, models[model].parameters.count))
            }
        }
    }

    /// Norms of the gradients: of each model by itself.
    public func gradientNorms() -> [Double] {
        var squares = [Double](repeating: 0, count: pieces.count)
        squares.withUnsafeMutableBufferPointer { squares in
            // Each element is written by one thread.
            nonisolated(unsafe) let squares = squares
            team.forEach(pieces.count) { index, _ in
                let (model, range) = pieces[index]
                squares[index] = kernels.square_sum(models[model].model.parameters.gradients + range.lowerBound, range.count)
            }
        }
        return models.indices.map { model in
            zip(pieces, squares).reduce(0) { $0 + ($1.0.model == model ? $1.1 : 0) }.squareRoot()
        }
    }

    /// One step with the gradients as they are, which are zero afterwards.
    ///
    /// - Parameters:
    ///   - rate: the learning rate of this step.
    ///   - norms: what `gradientNorms` gave.
    /// - Complexity: O(weights): 32 bytes read or written for each.
    public func take(rate: Double, norms: [Double]) {
        step += 1
        let norm = norms.reduce(0) { $0 + $1 * $1 }.squareRoot()
        // As torch.nn.utils.clip_grad_norm_ has it.
        let clip = settings.clip.map { min(1, $0 / (norm + 1e-6)) } ?? 1
        let correction1 = 1 - pow(settings.beta1, Double(step))
        let correction2 = 1 - pow(settings.beta2, Double(step))
        let plain = ck_adamw(
            clip: Float(clip), rate: Float(rate / correction1), keep: 1, beta1: Float(settings.beta1), beta2: Float(settings.beta2),
            root: Float(1 / correction2.squareRoot()), epsilon: Float(settings.epsilon))
        var decaying = plain
        decaying.keep = Float(1 - rate * settings.decay)
        team.forEach(pieces.count) { index, _ in
            let (model, range) = pieces[index]
            let (parameters, moments) = (models[model].model.parameters, models[model].moments)
            func take(_ range: Range<Int>, _ step: inout ck_adamw) {
                kernels.adamw(
                    parameters.values + range.lowerBound, parameters.gradients + range.lowerBound, moments.first + range.lowerBound,
                    moments.second + range.lowerBound, range.count, &step)
            }
            var (plain, decaying) = (plain, decaying)
            guard settings.decay != 0 else { return take(range, &plain) }
            for entry in parameters.entries {
                let own = entry.parameter.offset..<entry.parameter.offset + entry.parameter.count
                let part = own.clamped(to: range)
                guard !part.isEmpty else { continue }
                if entry.parameter.isMatrix { take(part, &decaying) } else { take(part, &plain) }
            }
        }
    }
}
