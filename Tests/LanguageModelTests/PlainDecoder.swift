import Foundation
import TestSupport

@testable import LanguageModel

/// The decoders that can be trained, one token after the other in Double and plain loops, written to be read: what forward and
/// backward passes are held against.
struct PlainDecoder {
    typealias Row = [Double]

    enum Shape {
        case preNorm(DecoderConfiguration)
        case gpt2(GPT2.Configuration)
    }

    let shape: Shape
    /// By the names that the tensors have, row-major.
    var weights: [String: [Double]]

    init(_ model: TrainedModel, config path: String) throws {
        let file = try ConfigurationReader(FileTree.bytes(path), path: path)
        if let type = try Architectures.named(file).type as? any PreNormArchitecture.Type {
            shape = .preNorm(try type.configuration(file).0)
        } else {
            shape = .gpt2(try GPT2.Configuration(file))
        }
        weights = Dictionary(uniqueKeysWithValues: model.weights.map { ($0.name, $0.values.map(Double.init)) })
    }

    /// The logits (V) that predict each of the supervised tokens.
    func logits(_ sample: ScoringSample) -> [Row] {
        var stream = embed(sample.tokens)
        switch shape {
        case .preNorm(let config):
            for layer in 0..<config.layerCount { preNormLayer(config, layer, &stream) }
        case .gpt2(let config):
            for layer in 0..<config.layerCount { gpt2Layer(config, layer, &stream) }
        }
        let head = weights["lm_head.weight"] == nil ? table : "lm_head.weight"
        return sample.supervised.joined().map { product(lastNorm(stream[$0 - 1]), head) }
    }

    // MARK: Llama and its kin

    private func preNormLayer(_ config: DecoderConfiguration, _ index: Int, _ stream: inout [Row]) {
        let name = "model.layers.\(index)"
        let attention = name + ".self_attn"
        let (size, rope) = (config.headSize, config.ropes[index])
        func heads(_ x: Row, norm: String) -> [Row] {
            stride(from: 0, to: x.count, by: size).map { start in
                let head = Array(x[start..<start + size])
                return weights[norm + ".weight"] == nil ? head : rmsNorm(head, norm, config.epsilon)
            }
        }
        let normed = stream.map { rmsNorm($0, name + ".input_layernorm", config.epsilon) }
        let queries = normed.enumerated().map { position, x in
            heads(linear(x, attention + ".q_proj"), norm: attention + ".q_norm").map { turned($0, position, rope) }
        }
        let keys = normed.enumerated().map { position, x in
            heads(linear(x, attention + ".k_proj"), norm: attention + ".k_norm").map { turned($0, position, rope) }
        }
        let values = normed.map { heads(linear($0, attention + ".v_proj"), norm: "") }
        let mixed = attend(queries, keys, values, scale: 1 / Double(size).squareRoot(), window: config.windows[index])
        for token in stream.indices {
            stream[token] = sum(stream[token], linear(mixed[token], attention + ".o_proj"))
            let x = rmsNorm(stream[token], name + ".post_attention_layernorm", config.epsilon)
            let gate = linear(x, name + ".mlp.gate_proj").map { activation($0, config.activation) }
            let inner = zip(gate, linear(x, name + ".mlp.up_proj")).map { $0 * $1 }
            stream[token] = sum(stream[token], linear(inner, name + ".mlp.down_proj"))
        }
    }

    /// Pairs (x[i], x[i + half]) turn by position * theta^(-2i / size).
    private func turned(_ x: Row, _ position: Int, _ rope: Rope) -> Row {
        let half = x.count / 2
        var out = x
        for index in 0..<half {
            let angle = Double(position) * pow(rope.theta, -2 * Double(index) / Double(x.count))
            out[index] = x[index] * cos(angle) - x[index + half] * sin(angle)
            out[index + half] = x[index + half] * cos(angle) + x[index] * sin(angle)
        }
        return out
    }

    // MARK: GPT-2

    private func gpt2Layer(_ config: GPT2.Configuration, _ index: Int, _ stream: inout [Row]) {
        let name = "\(prefix)h.\(index)"
        let (width, size) = (config.width, config.width / config.headCount)
        let projected = stream.map { linear(layerNorm($0, name + ".ln_1", config.epsilon), name + ".attn.c_attn", transposed: true) }
        func heads(_ part: Int) -> [[Row]] {
            projected.map { x in (0..<config.headCount).map { Array(x[part * width + $0 * size..<part * width + ($0 + 1) * size]) } }
        }
        var scale = config.isScaled ? 1 / Double(size).squareRoot() : 1
        if config.isScaledByLayer { scale /= Double(index + 1) }
        let mixed = attend(heads(0), heads(1), heads(2), scale: scale, window: nil)
        for token in stream.indices {
            stream[token] = sum(stream[token], linear(mixed[token], name + ".attn.c_proj", transposed: true))
            let x = layerNorm(stream[token], name + ".ln_2", config.epsilon)
            let inner = linear(x, name + ".mlp.c_fc", transposed: true).map { activation($0, config.activation) }
            stream[token] = sum(stream[token], linear(inner, name + ".mlp.c_proj", transposed: true))
        }
    }

    // MARK: What both have

    /// What the names of a GPT-2's tensors begin with.
    private var prefix: String { weights["wte.weight"] == nil ? "transformer." : "" }
    private var table: String {
        if case .gpt2 = shape { prefix + "wte.weight" } else { "model.embed_tokens.weight" }
    }

    private func embed(_ tokens: [Int32]) -> [Row] {
        func row(_ name: String, _ index: Int, _ width: Int) -> Row { Array(weights[name]![index * width..<(index + 1) * width]) }
        return tokens.enumerated().map { position, token in
            switch shape {
            case .preNorm(let config): row(table, Int(token), config.hiddenSize)
            case .gpt2(let config):
                sum(row(table, Int(token), config.width), row(prefix + "wpe.weight", position, config.width))
            }
        }
    }

    private func lastNorm(_ x: Row) -> Row {
        switch shape {
        case .preNorm(let config): rmsNorm(x, "model.norm", config.epsilon)
        case .gpt2(let config): layerNorm(x, prefix + "ln_f", config.epsilon)
        }
    }

    /// Causal attention, [token][head]; groups of query heads share the heads of keys and values.
    private func attend(_ queries: [[Row]], _ keys: [[Row]], _ values: [[Row]], scale: Double, window: Int?) -> [Row] {
        queries.indices.map { token in
            let seen = max(0, token + 1 - (window ?? token + 1))...token
            return queries[token].enumerated().flatMap { head, query -> Row in
                let shared = head * keys[token].count / queries[token].count
                let p = PlainDecoder.softmax(seen.map { scale * dot(query, keys[$0][shared]) })
                var out = Row(repeating: 0, count: query.count)
                for (weight, at) in zip(p, seen) { for index in out.indices { out[index] += weight * values[at][shared][index] } }
                return out
            }
        }
    }

    /// weight x + bias; the weight is (out, in), or (in, out) where it lies `transposed`.
    private func linear(_ x: Row, _ name: String, transposed: Bool = false) -> Row {
        let out = product(x, name + ".weight", transposed: transposed)
        return weights[name + ".bias"].map { sum(out, $0) } ?? out
    }

    private func product(_ x: Row, _ name: String, transposed: Bool = false) -> Row {
        let weight = weights[name]!
        let count = weight.count / x.count
        var out = Row(repeating: 0, count: count)
        // By pointers: this is nearly all the time that a test takes where loops are not optimised.
        weight.withUnsafeBufferPointer { weight in
            x.withUnsafeBufferPointer { x in
                for index in 0..<count {
                    var sum = 0.0
                    var at = 0
                    while at < x.count {
                        sum += x[at] * (transposed ? weight[at * count + index] : weight[index * x.count + at])
                        at += 1
                    }
                    out[index] = sum
                }
            }
        }
        return out
    }

    private func rmsNorm(_ x: Row, _ name: String, _ epsilon: Float) -> Row {
        let s = 1 / (dot(x, x) / Double(x.count) + Double(epsilon)).squareRoot()
        return zip(x, weights[name + ".weight"]!).map { $0 * s * $1 }
    }

    private func layerNorm(_ x: Row, _ name: String, _ epsilon: Float) -> Row {
        let mean = x.reduce(0, +) / Double(x.count)
        let moved = x.map { $0 - mean }
        let s = 1 / (dot(moved, moved) / Double(x.count) + Double(epsilon)).squareRoot()
        return sum(zip(moved, weights[name + ".weight"]!).map { $0 * s * $1 }, weights[name + ".bias"]!)
    }

    private func activation(_ x: Double, _ kind: Activation) -> Double {
        switch kind {
        case .silu: x / (1 + exp(-x))
        case .gelu: x / 2 * (1 + erf(x / 2.0.squareRoot()))
        case .geluTanh: x / 2 * (1 + tanh((2 / Double.pi).squareRoot() * (x + 0.044715 * x * x * x)))
        case .relu: max(0, x)
        }
    }

    private func dot(_ a: Row, _ b: Row) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
    private func sum(_ a: Row, _ b: Row) -> Row { zip(a, b).map { $0 + $1 } }

    static func softmax(_ z: Row) -> Row {
        let logSum = logSum(z)
        return z.map { exp($0 - logSum) }
    }

    static func logSum(_ z: Row) -> Double {
        let largest = z.max()!
        return largest + log(z.reduce(0) { $0 + exp($1 - largest) })
    }
}

/// The loss of `GradientPass` in Double, from the logits of all supervised tokens of a batch.
struct PlainLoss {
    var settings = LossSettings()
    /// One for each supervised token.
    var targets: [Int32]
    var rotations: [Rotation?]

    init(_ samples: [GradientPass.Sample], _ settings: LossSettings) {
        self.settings = settings
        targets = samples.flatMap { sample in sample.sample.supervised.joined().map { sample.sample.tokens[$0] } }
        rotations = samples.flatMap { $0.rotations ?? [Rotation?](repeating: nil, count: $0.sample.count) }
    }

    /// The mean over the tokens, for logits [token][V].
    func mean(_ strong: [[Double]], _ weak: [[Double]]? = nil) -> Double {
        let (share, weakShare, smoothing) = (Double(settings.share), Double(settings.weakShare), Double(settings.smoothing))
        var total = 0.0
        for (token, target) in targets.enumerated() {
            let mixed = strong[token].indices.map { index in
                let source = rotations[token]?.source(of: index) ?? index
                return share * strong[token][index] + (weak.map { weakShare * $0[token][source] } ?? 0)
            }
            let logSum = PlainDecoder.logSum(mixed)
            total += logSum - (1 - smoothing) * mixed[Int(target)] - smoothing * mixed.reduce(0, +) / Double(mixed.count)
        }
        return total / Double(targets.count)
    }
}
