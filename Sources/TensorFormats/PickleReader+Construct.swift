/// What calling a global of the allow-list makes.
extension PickleReader {
    /// Dimensions a tensor may have. PyTorch's own operations stop at 64.
    static let maximumRank = 64

    /// The value that `callee(*arguments)` stands for. Nothing is called.
    mutating func construct(_ callee: PickleValue, arguments: [PickleValue]) throws(FormatError) -> PickleValue {
        guard case .global(let index) = callee else {
            // A method or class that something opaque would have returned.
            if case .opaque = callee { return callee }
            throw refusal("a call of a value that is no class or function")
        }
        let kind = heap.globals[index].kind
        switch kind {
        case .dictionary: return try dictionary(arguments[...])
        case .defaultDictionary: return try dictionary(arguments.dropFirst())
        case .set:
            guard let first = arguments.first else { return .set(try container([])) }
            switch first {
            case .list(let elements), .tuple(let elements), .set(let elements): return .set(elements)
            default: throw refusal("a set of something that is no list")
            }
        case .size:
            guard arguments.count == 1, case .tuple = arguments[0] else {
                throw refusal("a torch.Size without its tuple")
            }
            return arguments[0]
        case .encode: return .bytes
        case .subclass:
            // (function, class, its arguments, state): the class and the state do not change where the bytes are.
            guard arguments.count >= 3, case .global(let inner) = arguments[0] else {
                throw refusal("_rebuild_from_type_v2 without a function and arguments")
            }
            return try rebuild(inner, arguments: try elements(ofTuple: arguments[2])) ?? skip(inner)
        default:
            return try rebuild(index, arguments: arguments) ?? skip(index)
        }
    }

    /// The storage that a persistent id names: `("storage", class, key, location, elements)`.
    mutating func storage(_ id: [PickleValue]) throws(FormatError) -> PickleValue {
        guard id.count == 5, id[0] == .string("storage") else {
            throw refusal(.unsupported, "a persistent id that is no storage")
        }
        guard case .global(let index) = id[1], case .string(let key) = id[2], case .int(let count) = id[4],
            let elements = UInt64(exactly: count)
        else { throw refusal("a storage without class, key and number of elements") }
        guard key.utf8.count <= PickleReader.maximumNameLength else {
            throw refusal(.limit, "a storage whose key is over \(PickleReader.maximumNameLength) bytes")
        }
        let (dtype, isUntyped): (DType, Bool)
        switch heap.globals[index].kind {
        case .storage(let known): (dtype, isUntyped) = (known, false)
        case .untypedStorage: (dtype, isUntyped) = (.u8, true)
        default: return skip(index)
        }
        guard let byteCount = dtype.byteCount(shape: [elements]) else { throw refusal("a storage of over 2^64 bytes") }
        let storage = PickleStorage(
            key: key, dtype: dtype, isUntyped: isUntyped, byteCount: byteCount, position: place)
        guard let interned = heap.intern(storage) else {
            throw refusal("storage \"\(SafePath.printable(key))\" was described otherwise before")
        }
        return .storage(interned)
    }

    private mutating func skip(_ global: Int) -> PickleValue {
        heap.skipped.insert(global)
        return .opaque(global: global)
    }

    /// Copies what a dictionary is made from: none, one dictionary, or one list of pairs.
    private mutating func dictionary(_ arguments: ArraySlice<PickleValue>) throws(FormatError) -> PickleValue {
        switch arguments.first {
        case nil: return .dict(try container([]))
        case .dict(let index): return .dict(try container(heap.containers[index]))
        case .list(let index), .tuple(let index):
            var items: [PickleValue] = []
            for pair in heap.containers[index] {
                guard case .list(let element) = pair.asList, heap.containers[element].count == 2 else {
                    throw refusal("a dictionary from a list of something else than pairs")
                }
                items += heap.containers[element]
            }
            return .dict(try container(items))
        default: throw refusal("a dictionary from a value that is no dictionary or list")
        }
    }

    /// The tensor that a rebuild function makes, or nil when the function is not on the list, the storage is
    /// opaque or the tensor is more than a view of its bytes.
    private mutating func rebuild(_ function: Int, arguments: [PickleValue]) throws(FormatError) -> PickleValue? {
        switch heap.globals[function].kind {
        case .parameter:
            switch arguments.first {
            case .tensor, .opaque: return arguments[0]
            default: throw refusal("a parameter without a tensor")
            }
        case .tensor: return try view(arguments, dtype: nil, metadata: 6)
        case .typedTensor:
            guard arguments.count >= 7, case .global(let index) = arguments[6] else {
                throw refusal("_rebuild_tensor_v3 without a dtype")
            }
            guard case .dtype(let dtype) = heap.globals[index].kind else { return skip(index) }
            return try view(arguments, dtype: dtype, metadata: 7)
        default: return nil
        }
    }

    /// - Parameters:
    ///   - dtype: nil for that of the storage.
    ///   - metadata: the argument that says, in a dictionary, that values are conjugated or negated on reading.
    private mutating func view(
        _ arguments: [PickleValue], dtype: DType?, metadata: Int
    ) throws(FormatError) -> PickleValue? {
        guard arguments.count >= 4, case .int(let offset) = arguments[1] else {
            throw refusal("a tensor without storage, offset, shape and strides")
        }
        if arguments.count > metadata, case .dict(let index) = arguments[metadata], !heap.containers[index].isEmpty {
            return nil
        }
        let storage: Int
        switch arguments[0] {
        case .storage(let index): storage = index
        case .opaque: return arguments[0]
        default: throw refusal("a tensor without a storage")
        }
        let shape = try integers(arguments[2])
        let strides = try integers(arguments[3])
        guard shape.count == strides.count else {
            throw refusal("a tensor of \(shape.count) dimensions with \(strides.count) strides")
        }
        // The tensor's fixed part weighs as much as eight values.
        guard heap.take(8 + 2 * shape.count) else {
            throw refusal(.limit, "more than \(PickleHeap.maximumValues) values")
        }
        heap.tensors.append(
            PickleTensor(
                storage: storage, dtype: dtype ?? heap.storages[storage].dtype, offset: offset, shape: shape,
                strides: strides, position: place))
        return .tensor(heap.tensors.count - 1)
    }

    private func integers(_ value: PickleValue) throws(FormatError) -> [Int64] {
        guard case .list(let index) = value.asList else { throw refusal("a shape that is no tuple") }
        let elements = heap.containers[index]
        guard elements.count <= PickleReader.maximumRank else {
            throw refusal(.limit, "a tensor of \(elements.count) dimensions, over \(PickleReader.maximumRank)")
        }
        var result: [Int64] = []
        for element in elements {
            guard case .int(let number) = element else { throw refusal("a shape with something else than integers") }
            result.append(number)
        }
        return result
    }
}

extension PickleValue {
    /// A tuple as a list of the same elements; anything else as it is.
    fileprivate var asList: PickleValue {
        if case .tuple(let index) = self { .list(index) } else { self }
    }
}
