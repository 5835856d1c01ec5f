/// Puts together what the pickle says and where the zip has it.
struct PyTorchLayout {
    private struct Placed {
        var storage: PickleStorage
        /// Bytes from the start of the file.
        var offset: UInt64
        /// Dtypes and shapes of contiguous tensors that are the whole storage.
        var covers: Set<Cover> = []
        /// Dtypes of all tensors that view it.
        var dtypes: Set<DType> = []
    }

    private struct Cover: Hashable {
        var dtype: DType
        var shape: [UInt64]
    }

    private let path: String
    /// In the order of the heap.
    private var placed: [Placed] = []
    /// By name; `storage` is still the index in `placed`.
    private var tensors: [TensorFile.Tensor] = []

    init(path: String) {
        self.path = path
    }

    /// Finds the entry of every storage.
    mutating func place(
        _ storages: [PickleStorage], in directory: ZipDirectory, root: String
    ) throws(FormatError) {
        for storage in storages {
            func refusal(_ code: FormatError.Code, _ reason: String) -> FormatError {
                FormatError(
                    code, path: path, byte: storage.position, "storage \"\(SafePath.printable(storage.key))\" \(reason)"
                )
            }
            guard let entry = directory["\(root)/data/\(storage.key)"] else {
                throw refusal(.malformed, "has no entry in the zip")
            }
            guard entry.isStored else { throw refusal(.unsupported, "is compressed") }
            guard entry.size >= storage.byteCount else {
                throw refusal(.malformed, "has \(entry.size) bytes where the pickle promises \(storage.byteCount)")
            }
            placed.append(Placed(storage: storage, offset: entry.offset))
        }
    }

    /// Checks a tensor against its storage. Tensors are added in the order of their names.
    mutating func add(_ tensor: PickleTensor, name: String) throws(FormatError) {
        let byteCount = placed[tensor.storage].storage.byteCount
        let view: PyTorchView
        do {
            view = try PyTorchView(tensor, storageBytes: byteCount)
        } catch {
            throw FormatError(
                .malformed, path: path, tensor: SafePath.printable(name), byte: tensor.position, error.reason)
        }
        placed[tensor.storage].dtypes.insert(tensor.dtype)
        if view.strides == nil, view.offset == 0, view.byteCount == byteCount {
            placed[tensor.storage].covers.insert(Cover(dtype: tensor.dtype, shape: view.shape))
        }
        tensors.append(
            TensorFile.Tensor(
                name: name, storage: tensor.storage, offset: view.offset, dtype: tensor.dtype, shape: view.shape,
                strides: view.strides))
    }

    /// The finished description.
    func file(size: UInt64, skipped: [ExactName]) -> TensorFile {
        let order = placed.indices.sorted { left, right in
            (placed[left].offset, placed[left].storage.byteCount, left)
                < (placed[right].offset, placed[right].storage.byteCount, right)
        }
        var rank = [Int](repeating: 0, count: placed.count)
        for (position, index) in order.enumerated() { rank[index] = position }
        let renumbered = tensors.map { tensor in
            var tensor = tensor
            tensor.storage = rank[tensor.storage]
            return tensor
        }
        return TensorFile(
            format: .pytorch, size: size, storages: order.map { storage(placed[$0]) }, tensors: renumbered,
            skipped: skipped.sorted().map(\.string))
    }

    /// The one shape that covers the storage gives it its rows; without one it is a row itself.
    private func storage(_ placed: Placed) -> TensorFile.Storage {
        let byteCount = placed.storage.byteCount
        func storage(_ dtype: DType, _ shape: [UInt64]) -> TensorFile.Storage {
            TensorFile.Storage(offset: placed.offset, length: byteCount, dtype: dtype, shape: shape)
        }
        if placed.covers.count == 1, let cover = placed.covers.first { return storage(cover.dtype, cover.shape) }
        var dtype = placed.storage.dtype
        if placed.storage.isUntyped, placed.dtypes.count == 1, let only = placed.dtypes.first { dtype = only }
        let itemSize = UInt64(dtype.bits / 8)
        return byteCount % itemSize == 0 ? storage(dtype, [byteCount / itemSize]) : storage(.u8, [byteCount])
    }
}
