/// A class or function that a pickle names, and what it means to this reader.
///
/// This is the allow-list. Nothing is ever imported or called: a kind on the list has its meaning re-enacted by
/// `PickleReader`, and everything else is `other`.
struct PickleGlobal {
    enum Kind: Equatable {
        /// `(storage, offset, shape, strides, ...)`
        case tensor
        /// The same with a dtype of its own, over an untyped storage.
        case typedTensor
        /// A parameter, `(tensor, ...)`.
        case parameter
        /// `(rebuild function, class, arguments, state)`
        case subclass
        /// A dictionary from nothing, from another one, or from a list of pairs.
        case dictionary
        /// A dictionary with a default in front of those arguments.
        case defaultDictionary
        case set
        /// `torch.Size`: a tuple.
        case size
        /// `_codecs.encode`, by which protocol 2 writes bytes.
        case encode
        case storage(DType)
        case untypedStorage
        case dtype(DType)
        case other
    }

    /// Module and name with a space between, as in a pickle's GLOBAL.
    let name: String
    let kind: Kind

    init(name: String) {
        self.name = name
        kind = PickleGlobal.kinds[ExactName(name)] ?? .other
    }

    private static let kinds: [ExactName: Kind] = {
        var kinds: [ExactName: Kind] = [:]
        for (name, kind) in named { kinds[ExactName(name)] = kind }
        for (name, dtype) in storages { kinds[ExactName("torch \(name)Storage")] = .storage(dtype) }
        for (name, dtype) in dtypes { kinds[ExactName("torch \(name)")] = .dtype(dtype) }
        return kinds
    }()

    private static let named: [(String, Kind)] = [
        ("torch._utils _rebuild_tensor", .tensor),
        ("torch._utils _rebuild_tensor_v2", .tensor),
        ("torch._utils _rebuild_tensor_v3", .typedTensor),
        ("torch._utils _rebuild_parameter", .parameter),
        ("torch._utils _rebuild_parameter_with_state", .parameter),
        ("torch._tensor _rebuild_from_type_v2", .subclass),
        ("torch Size", .size),
        ("torch UntypedStorage", .untypedStorage),
        ("torch.storage UntypedStorage", .untypedStorage),
        ("torch.storage _UntypedStorage", .untypedStorage),
        ("collections OrderedDict", .dictionary),
        ("collections defaultdict", .defaultDictionary),
        // Protocol 2 gives builtins the name they had in Python 2.
        ("__builtin__ dict", .dictionary),
        ("builtins dict", .dictionary),
        ("__builtin__ set", .set),
        ("builtins set", .set),
        ("__builtin__ frozenset", .set),
        ("builtins frozenset", .set),
        ("_codecs encode", .encode),
    ]

    private static let storages: [(String, DType)] = [
        ("Double", .f64), ("Float", .f32), ("Half", .f16), ("BFloat16", .bf16),
        ("Long", .i64), ("Int", .i32), ("Short", .i16), ("Char", .i8), ("Byte", .u8), ("Bool", .bool),
        ("ComplexFloat", .c64), ("ComplexDouble", .c128),
        // The integers that quantised tensors are made of. The tensors themselves are not rebuilt.
        ("QUInt8", .u8), ("QInt8", .i8), ("QInt32", .i32),
    ]

    private static let dtypes: [(String, DType)] = [
        ("float64", .f64), ("float32", .f32), ("float16", .f16), ("bfloat16", .bf16),
        ("int64", .i64), ("int32", .i32), ("int16", .i16), ("int8", .i8),
        ("uint64", .u64), ("uint32", .u32), ("uint16", .u16), ("uint8", .u8), ("bool", .bool),
        ("complex64", .c64), ("complex128", .c128),
        ("float8_e4m3fn", .f8E4M3), ("float8_e5m2", .f8E5M2), ("float8_e8m0fnu", .f8E8M0),
        ("float8_e4m3fnuz", .f8E4M3FNUZ), ("float8_e5m2fnuz", .f8E5M2FNUZ),
    ]
}
