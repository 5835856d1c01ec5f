/// What must hold for every file that a reader accepts.
enum Invariants {
    /// Storages in order, inside the file, apart from one another; tensors inside their storages, in order, unique.
    static func check(_ file: TensorFile, size: Int) {
        precondition(file.size == UInt64(size), "the file's size")
        var covered: UInt64 = 0
        for storage in file.storages {
            precondition(storage.offset >= covered, "storages overlap or are out of order")
            let (end, overflow) = storage.offset.addingReportingOverflow(storage.length)
            precondition(!overflow && end <= file.size, "a storage is outside the file")
            precondition(storage.dtype.byteCount(shape: storage.shape) == storage.length, "a storage's shape")
            covered = end
        }
        for (index, tensor) in file.tensors.enumerated() {
            if index > 0 {
                precondition(ExactName(file.tensors[index - 1].name) < ExactName(tensor.name), "the order of names")
            }
            check(tensor, in: file.storages[tensor.storage])
        }
    }

    private static func check(_ tensor: TensorFile.Tensor, in storage: TensorFile.Storage) {
        let count = DType.elementCount(shape: tensor.shape)!
        var extent = count
        if let strides = tensor.strides {
            precondition(strides.count == tensor.shape.count && count > 0, "strides")
            extent = zip(tensor.shape, strides).reduce(1) { $0 + ($1.0 - 1) * $1.1 }
        }
        let bits = extent * UInt64(tensor.dtype.bits)
        precondition(bits % 8 == 0 && tensor.offset + bits / 8 <= storage.length, "a tensor is outside its storage")
    }
}
