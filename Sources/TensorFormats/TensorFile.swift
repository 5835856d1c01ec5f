/// What a file of tensors holds and where: the common description that both readers produce.
///
/// A file is its *storages* (byte ranges that hold tensor data) and its *skeleton* (every other byte, in
/// order). Nothing here owns or copies tensor data.
public struct TensorFile: Sendable, Equatable {
    /// The raw values are written into stores.
    public enum Format: UInt8, Sendable {
        case opaque = 0
        case safetensors = 1
        case pytorch = 2
    }

    /// A run of tensor data inside the file.
    public struct Storage: Sendable, Equatable {
        /// Bytes from the start of the file.
        public var offset: UInt64
        /// Bytes; zero for tensors with a zero dimension.
        public var length: UInt64
        public var dtype: DType
        /// The shape the storage is cut into blocks by: that of the one contiguous tensor that covers it
        /// whole, else one dimension. `dtype.byteCount(shape:) == length` always holds.
        public var shape: [UInt64]

        public init(offset: UInt64, length: UInt64, dtype: DType, shape: [UInt64]) {
            self.offset = offset
            self.length = length
            self.dtype = dtype
            self.shape = shape
        }
    }

    /// A named tensor: a view of a storage.
    public struct Tensor: Sendable, Equatable {
        public var name: String
        /// Index into `storages`.
        public var storage: Int
        /// Bytes from the start of the storage.
        public var offset: UInt64
        public var dtype: DType
        public var shape: [UInt64]
        /// In elements, one a dimension; nil when the tensor is contiguous in row-major order.
        public var strides: [UInt64]?

        public init(
            name: String, storage: Int, offset: UInt64, dtype: DType, shape: [UInt64], strides: [UInt64]?
        ) {
            self.name = name
            self.storage = storage
            self.offset = offset
            self.dtype = dtype
            self.shape = shape
            self.strides = strides
        }
    }

    public var format: Format
    /// Bytes of the whole file.
    public var size: UInt64
    /// By ascending (offset, length); never overlapping, all inside the file.
    public var storages: [Storage]
    /// By name, in byte order of its UTF-8; names are unique.
    public var tensors: [Tensor]
    /// Pickle globals (`module name`) whose values were skipped without being built, sorted and unique.
    public var skipped: [String]

    public init(
        format: Format, size: UInt64, storages: [Storage], tensors: [Tensor], skipped: [String] = []
    ) {
        self.format = format
        self.size = size
        self.storages = storages
        self.tensors = tensors
        self.skipped = skipped
    }

    /// A file without tensors: all skeleton.
    public static func opaque(size: UInt64) -> TensorFile {
        TensorFile(format: .opaque, size: size, storages: [], tensors: [])
    }
}
