internal import CheckpointStore

/// How the rows of a diff are put together.
public enum DiffGrouping: String, Sendable, CaseIterable {
    case tensor, layer, kind
}

/// What a tensor is for, told by its name in the ways of Llama, GPT-2, GPT-NeoX and their like.
public enum TensorGroup {
    /// `layer 3`, or `outside layers`: the first number that is a component of the name.
    public static func layer(_ name: String) -> String {
        for component in name.split(separator: ".") {
            if let number = Int(component), number >= 0 { return "layer \(number)" }
        }
        return "outside layers"
    }

    /// Layers in the order of their numbers, what is outside them behind.
    static func precedes(_ a: String, _ b: String) -> Bool {
        func number(_ layer: String) -> Int { layer.split(separator: " ").last.flatMap { Int($0) } ?? Int.max }
        return number(a) < number(b)
    }

    /// Whether a name belongs to a numbered layer: GPT-2 calls its list of layers `h`.
    private static func isLayered(_ components: [String]) -> Bool { components.contains { Int($0) != nil } }

    /// `embedding`, `norm`, `attention`, `mlp`, `head` or `other`.
    public static func kind(_ name: String) -> String {
        let components = name.lowercased().split(separator: ".").map(String.init)
        func has(_ words: [String]) -> Bool {
            components.contains { component in words.contains { component.contains($0) } }
        }
        func isExactly(_ words: [String]) -> Bool { components.contains { words.contains($0) } }
        if has(["lm_head", "embed_out"]) || isExactly(["head", "output", "h"]) && !isLayered(components) { return "head" }
        if has(["embed", "wte", "wpe"]) || isExactly(["emb", "e"]) { return "embedding" }
        if has(["norm", "ln_", "layernorm"]) || isExactly(["n1", "n2", "ln1", "ln2", "nf", "n"]) { return "norm" }
        if has(["mlp", "feed_forward", "gate_proj", "up_proj", "down_proj", "experts", "ffn"])
            || isExactly(["u", "g", "d", "w1", "w2", "w3"])
        {
            return "mlp"
        }
        if has(["attn", "attention", "q_proj", "k_proj", "v_proj", "o_proj"]) || isExactly(["q", "k", "v", "o", "wq", "wk", "wv", "wo"]) {
            return "attention"
        }
        return "other"
    }
}

/// Several tensors of a diff taken together.
public struct DeltaGroup: Sendable {
    /// The tensor's, the layer's or the kind's.
    public var name: String
    /// Tensors in it that were compared; identical ones are not.
    public var tensors: Int
    /// Sums over those. Its name, dtype and shape are those of the first.
    public var delta: WeightDelta

    public init(name: String, tensors: Int, delta: WeightDelta) {
        self.name = name
        self.tensors = tensors
        self.delta = delta
    }
}

extension CheckpointDelta {
    /// The compared tensors one by one, by layer in the order of their numbers, or by kind in order of first appearance. The optimizer's state, whose names say
    /// neither, is a group of its own.
    public func groups(by grouping: DiffGrouping) -> [DeltaGroup] {
        // Tensors of one name, in several files or parts, are several.
        if grouping == .tensor { return compared.map { DeltaGroup(name: $0.name, tensors: 1, delta: $0) } }
        var groups: [DeltaGroup] = []
        var indices: [String: Int] = [:]
        for delta in compared {
            let name =
                switch grouping {
                case .tensor: delta.name
                case .layer where delta.part == .optimizer, .kind where delta.part == .optimizer: "optimizer"
                case .layer: TensorGroup.layer(delta.name)
                case .kind: TensorGroup.kind(delta.name)
                }
            if let index = indices[name] {
                groups[index].tensors += 1
                groups[index].delta.add(delta)
            } else {
                indices[name] = groups.count
                var sum = delta
                sum.spectrum = nil
                sum.movement?.rows = nil
                sum.movement?.columns = nil
                groups.append(DeltaGroup(name: name, tensors: 1, delta: sum))
            }
        }
        return grouping == .layer ? groups.sorted { TensorGroup.precedes($0.name, $1.name) } : groups
    }
}
