/// Finds the tensors in what a pickle made, and names them by where they are.
///
/// The name joins the keys and indexes on the way with dots: `state.0.exp_avg`. A tensor that is the whole value
/// is called `tensor`. Where two ways give the same name, those after the first get `#2`, `#3` and so on, in
/// the order of the pickle.
struct PickleFlattener {
    /// A tensor and its name.
    struct Found {
        var name: String
        /// Index into the heap's tensors.
        var tensor: Int
    }

    /// Elements that may be visited. Containers that contain one shared container twice, level upon level, have
    /// exponentially many ways through them.
    static let maximumVisits = 2 << 20
    /// Containers inside one another on the way to a tensor.
    static let maximumDepth = 256
    /// Bytes of all names together.
    static let maximumNameBytes = 64 << 20
    /// Tensors, each counted once a name.
    static let maximumTensors = 1 << 19
    /// Bytes of all keys of dictionaries together, each counted once a time it occurs.
    static let maximumKeyBytes = 1 << 30

    private var heap: PickleHeap
    private let path: String
    private var visits = 0
    private var nameBytes = 0
    private var keyBytes = 0
    /// The name of the container being visited.
    private var prefix: [UInt8] = []
    private var frames: [Frame] = []
    /// Containers among the frames: meeting one again is a cycle.
    private var open: Set<Int> = []
    /// Dictionaries without keys that occur twice.
    private var settled: Set<Int> = []
    private var found: [Found] = []

    private struct Frame {
        var container: Int
        var isDictionary: Bool
        var next = 0
        /// Bytes of the prefix without this container's own part.
        var prefixLength: Int
    }

    init(_ heap: PickleHeap, path: String) {
        self.heap = heap
        self.path = path
    }

    /// The tensors under `root`, by name in byte order; names are unique.
    ///
    /// - Throws: `.limit` over one of the limits above.
    /// - Complexity: O(n log n) in the elements visited and the bytes of the names.
    mutating func flatten(_ root: PickleValue) throws(FormatError) -> [Found] {
        if case .tensor(let tensor) = root { return [Found(name: "tensor", tensor: tensor)] }
        try enter(root, key: nil, position: 0)
        while var frame = frames.popLast() {
            let elements = heap.containers[frame.container]
            guard frame.next < elements.count else {
                open.remove(frame.container)
                prefix.removeLast(prefix.count - frame.prefixLength)
                continue
            }
            visits += 1
            guard visits <= PickleFlattener.maximumVisits else {
                throw overLimit("more than \(PickleFlattener.maximumVisits) ways to its values")
            }
            let index = frame.next
            frame.next += frame.isDictionary ? 2 : 1
            frames.append(frame)
            if frame.isDictionary {
                try enter(elements[index + 1], key: elements[index], position: index / 2)
            } else {
                try enter(elements[index], key: .int(Int64(index)), position: index)
            }
        }
        return PickleFlattener.unique(found)
    }

    /// Opens a container, notes a tensor, and passes over everything else.
    private mutating func enter(_ value: PickleValue, key: PickleValue?, position: Int) throws(FormatError) {
        switch value {
        case .tensor(let tensor):
            let length = prefix.count
            append(key, position: position)
            nameBytes += prefix.count
            guard nameBytes <= PickleFlattener.maximumNameBytes else {
                throw overLimit("names of tensors that take over \(PickleFlattener.maximumNameBytes) bytes")
            }
            guard found.count < PickleFlattener.maximumTensors else {
                throw overLimit("more than \(PickleFlattener.maximumTensors) tensors")
            }
            found.append(Found(name: String(decoding: prefix, as: UTF8.self), tensor: tensor))
            prefix.removeLast(prefix.count - length)
        case .list(let container), .tuple(let container), .set(let container):
            try open(container, isDictionary: false, key: key, position: position)
        case .dict(let container):
            if settled.insert(container).inserted { try settle(container) }
            try open(container, isDictionary: true, key: key, position: position)
        default: break
        }
    }

    private mutating func open(
        _ container: Int, isDictionary: Bool, key: PickleValue?, position: Int
    ) throws(FormatError) {
        guard !heap.containers[container].isEmpty, open.insert(container).inserted else { return }
        guard frames.count < PickleFlattener.maximumDepth else {
            throw overLimit("containers nested deeper than \(PickleFlattener.maximumDepth)")
        }
        let prefixLength = prefix.count
        append(key, position: position)
        frames.append(Frame(container: container, isDictionary: isDictionary, prefixLength: prefixLength))
        guard prefix.count <= PickleFlattener.maximumNameBytes else {
            throw overLimit("a name of over \(PickleFlattener.maximumNameBytes) bytes")
        }
    }

    /// Adds the part of a name that a key gives: strings, integers, booleans and None as Python prints them, any
    /// other key by its position. The root has no key and no part.
    private mutating func append(_ key: PickleValue?, position: Int) {
        guard let key else { return }
        if frames.count > 1 || !prefix.isEmpty { prefix.append(UInt8(ascii: ".")) }
        switch key {
        case .string(let text): prefix.append(contentsOf: text.utf8)
        case .int(let number): prefix.append(contentsOf: String(number).utf8)
        case .bool(let value): prefix.append(contentsOf: (value ? "True" : "False").utf8)
        case .none: prefix.append(contentsOf: "None".utf8)
        default: prefix.append(contentsOf: "[\(position)]".utf8)
        }
    }

    /// Where a pickle sets a text or integer key twice, the last value is kept, at the first one's place.
    private mutating func settle(_ container: Int) throws(FormatError) {
        let items = heap.containers[container]
        var textPlace: [ExactName: Int] = [:]
        var numberPlace: [Int64: Int] = [:]
        var kept: [PickleValue] = []
        kept.reserveCapacity(items.count)
        for index in stride(from: 0, to: items.count, by: 2) {
            var earlier: Int?
            switch items[index] {
            case .string(let text):
                keyBytes += text.utf8.count
                guard keyBytes <= PickleFlattener.maximumKeyBytes else {
                    throw overLimit("keys that take over \(PickleFlattener.maximumKeyBytes) bytes")
                }
                earlier = textPlace.updateIfAbsent(ExactName(text), kept.count)
            case .int(let number): earlier = numberPlace.updateIfAbsent(number, kept.count)
            default: break
            }
            if let earlier {
                kept[earlier + 1] = items[index + 1]
            } else {
                kept += items[index...index + 1]
            }
        }
        heap.containers[container] = kept
    }

    private func overLimit(_ what: String) -> FormatError {
        FormatError(.limit, path: path, "pickle: \(what)")
    }

    /// Numbers the names that occur twice and sorts. A name that the file gives is never taken for a numbered one.
    private static func unique(_ found: [Found]) -> [Found] {
        var taken = Set(found.map { ExactName($0.name) })
        var uses: [ExactName: Int] = [:]
        var result = found
        for index in result.indices {
            let name = ExactName(result[index].name)
            var use = uses[name, default: 0] + 1
            if use > 1 {
                while !taken.insert(ExactName("\(name.string)#\(use)")).inserted { use += 1 }
                result[index].name = "\(name.string)#\(use)"
            }
            uses[name] = use
        }
        return result.sorted { ExactName($0.name) < ExactName($1.name) }
    }
}

extension Dictionary {
    /// The value that `key` already has; nil when it had none and has `value` now.
    fileprivate mutating func updateIfAbsent(_ key: Key, _ value: Value) -> Value? {
        if let present = self[key] { return present }
        self[key] = value
        return nil
    }
}
