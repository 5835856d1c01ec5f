#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// Rotary position embedding (arXiv 2104.09864): which angle each pair of a head turns by, position by position.
struct Rope: Sendable, Equatable {
    enum Scaling: Sendable, Equatable {
        case none
        /// Positions divided by `factor`.
        case linear(factor: Double)
        /// Low frequencies divided by `factor`, high ones kept, a ramp between (Llama 3.1).
        case llama3(factor: Double, lowFrequency: Double, highFrequency: Double, originalLength: Double)
        /// A ramp over the dimensions (arXiv 2309.00071); `magnitude` scales cosines and sines.
        case yarn(
            factor: Double, betaFast: Double, betaSlow: Double, originalLength: Double, magnitude: Double, truncate: Bool)
    }

    var theta: Double
    /// Dimensions of a head that turn: the first ones.
    var dimensions: Int
    var scaling: Scaling

    /// Angles a position, one for each pair, in the single precision the reference computes them in.
    var frequencies: [Float] {
        let half = dimensions / 2
        let plain = (0..<half).map { index in
            Float(1) / powf(Float(theta), Float(2 * index) / Float(dimensions))
        }
        switch scaling {
        case .none: return plain
        case .linear(let factor): return plain.map { $0 / Float(factor) }
        case .llama3(let factor, let low, let high, let original):
            return plain.map { frequency in
                let wavelength = 2 * Float.pi / frequency
                if wavelength > Float(original / low) { return frequency / Float(factor) }
                if wavelength < Float(original / high) { return frequency }
                let smooth = (Float(original) / wavelength - Float(low)) / Float(high - low)
                return (1 - smooth) * frequency / Float(factor) + smooth * frequency
            }
        case .yarn(let factor, let fast, let slow, let original, _, let truncate):
            func dimension(_ rotations: Double) -> Double {
                Double(dimensions) * log(original / (rotations * 2 * Double.pi)) / (2 * log(theta))
            }
            var first = dimension(fast)
            var last = dimension(slow)
            if truncate { (first, last) = (first.rounded(.down), last.rounded(.up)) }
            (first, last) = (max(first, 0), min(last, Double(dimensions - 1)))
            if first == last { last += 0.001 }
            return plain.enumerated().map { index, frequency in
                let ramp = min(max((Float(index) - Float(first)) / Float(last - first), 0), 1)
                return frequency / Float(factor) * ramp + frequency * (1 - ramp)
            }
        }
    }

    static let maximumDimensions = 4096

    /// What cosines and sines are multiplied by.
    var magnitude: Float {
        if case .yarn(_, _, _, _, let magnitude, _) = scaling { Float(magnitude) } else { 1 }
    }
}

extension Rope {
    /// Reads the parameters from `rope_parameters` (one object, or one a layer type) or from the keys of older files.
    ///
    /// - Parameters:
    ///   - parameters: the object that holds `rope_type` and its numbers; nil when there is none.
    ///   - theta: what holds where the object does not say.
    init(
        _ parameters: ConfigurationReader?, theta: Double, dimensions: Int, maximumLength: Int?, path: String
    ) throws(LanguageModelError) {
        guard dimensions > 0, dimensions % 2 == 0 else {
            throw LanguageModelError(.unsupported, "\(path): \(dimensions) rotary dimensions; an even number is needed")
        }
        // Tables are made before a tensor's shape has been seen.
        guard dimensions <= Rope.maximumDimensions else {
            throw LanguageModelError(.unsupported, "\(path): \(dimensions) rotary dimensions; up to \(Rope.maximumDimensions) are followed")
        }
        self.dimensions = dimensions
        self.theta = theta
        scaling = .none
        if let parameters {
            self.theta = try parameters.positive("rope_theta", or: theta)
            scaling = try Rope.scaling(parameters, maximumLength: maximumLength)
        }
    }

    private static func scaling(
        _ parameters: ConfigurationReader, maximumLength: Int?
    ) throws(LanguageModelError) -> Scaling {
        func needed(_ key: String) throws(LanguageModelError) -> Double {
            guard let number = try parameters.positive(key) else {
                throw LanguageModelError(.missing, "\(parameters.path): no \(key)")
            }
            return number
        }
        func originalLength() throws(LanguageModelError) -> Double {
            if let length = try parameters.positive("original_max_position_embeddings") { return length }
            if let maximumLength { return Double(maximumLength) }
            return try needed("original_max_position_embeddings")
        }
        let type = try parameters.text("rope_type", "type", or: "default")
        switch type {
        case "default": return .none
        case "linear": return .linear(factor: try needed("factor"))
        case "llama3":
            let low = try needed("low_freq_factor")
            let high = try needed("high_freq_factor")
            guard high > low else {
                throw LanguageModelError(.malformed, "\(parameters.path): high_freq_factor is not above low_freq_factor")
            }
            return .llama3(
                factor: try needed("factor"), lowFrequency: low, highFrequency: high, originalLength: try originalLength())
        case "yarn":
            let factor = try needed("factor")
            func magnitude(_ scale: Double) -> Double { factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1 }
            var attention = try parameters.positive("attention_factor")
            if attention == nil, let scale = try parameters.positive("mscale"),
                let all = try parameters.positive("mscale_all_dim")
            {
                attention = magnitude(scale) / magnitude(all)
            }
            return .yarn(
                factor: factor, betaFast: try parameters.positive("beta_fast", or: 32),
                betaSlow: try parameters.positive("beta_slow", or: 1), originalLength: try originalLength(),
                magnitude: attention ?? magnitude(1), truncate: try parameters.flag("truncate", default: true))
        default:
            throw LanguageModelError(
                .unsupported, "\(parameters.path): rope type \"\(type)\" is not supported",
                hint: "supported are default, linear, llama3, yarn")
        }
    }
}

/// Cosines and sines of every position up to a length.
final class RopeTable: @unchecked Sendable {
    let half: Int
    let length: Int
    private let values: UnsafeMutablePointer<Float>

    init(_ rope: Rope, length: Int) {
        let frequencies = rope.frequencies
        half = frequencies.count
        self.length = length
        values = .allocate(capacity: max(1, 2 * length * half))
        for position in 0..<length {
            for index in 0..<half {
                let angle = Float(position) * frequencies[index]
                values[2 * position * half + index] = cosf(angle) * rope.magnitude
                values[(2 * position + 1) * half + index] = sinf(angle) * rope.magnitude
            }
        }
    }

    deinit { values.deallocate() }

    func cosines(_ position: Int) -> UnsafePointer<Float> { UnsafePointer(values + 2 * position * half) }
    func sines(_ position: Int) -> UnsafePointer<Float> { UnsafePointer(values + (2 * position + 1) * half) }
}
