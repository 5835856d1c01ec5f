internal import CheckpointStore
internal import TensorFormats

/// The tensors of two checkpoints, paired by name.
struct TensorPairs {
    /// Same name, dtype and shape, and not known to be equal.
    private(set) var different: [(first: TensorEntry, second: TensorEntry)] = []
    /// The same stored bytes.
    private(set) var identical: [TensorEntry] = []
    private(set) var mismatched: [TensorMismatch] = []

    /// Tensors are of one pair when their part and name agree; and their file, where a part has a name twice.
    private struct Key: Hashable {
        var part: PartKind
        var name: ExactName
        var file: ExactName?
    }

    init(_ first: [TensorEntry], _ second: [TensorEntry]) {
        let ambiguous = TensorPairs.repeated(first).union(TensorPairs.repeated(second))
        func key(_ tensor: TensorEntry) -> Key {
            var key = Key(part: tensor.part, name: ExactName(tensor.name), file: nil)
            if ambiguous.contains(key) { key.file = ExactName(tensor.file) }
            return key
        }
        var others: [Key: TensorEntry] = [:]
        for tensor in second { others[key(tensor)] = tensor }
        for tensor in first {
            guard let other = others.removeValue(forKey: key(tensor)) else {
                mismatched.append(TensorMismatch(name: tensor.name, reason: .removed, first: tensor, second: nil))
                continue
            }
            if let identity = tensor.identity, identity == other.identity {
                identical.append(tensor)
            } else if tensor.shape != other.shape {
                mismatched.append(TensorMismatch(name: tensor.name, reason: .reshaped, first: tensor, second: other))
            } else if tensor.dtype != other.dtype {
                mismatched.append(TensorMismatch(name: tensor.name, reason: .retyped, first: tensor, second: other))
            } else {
                different.append((tensor, other))
            }
        }
        for tensor in second where others[key(tensor)] != nil {
            mismatched.append(TensorMismatch(name: tensor.name, reason: .added, first: nil, second: tensor))
        }
    }

    private static func repeated(_ tensors: [TensorEntry]) -> Set<Key> {
        var seen: Set<Key> = []
        var repeated: Set<Key> = []
        for tensor in tensors {
            let key = Key(part: tensor.part, name: ExactName(tensor.name), file: nil)
            if !seen.insert(key).inserted { repeated.insert(key) }
        }
        return repeated
    }
}
