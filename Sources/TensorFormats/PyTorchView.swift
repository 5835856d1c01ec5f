/// A tensor's view of its storage, checked.
struct PyTorchView {
    /// Bytes from the start of the storage.
    let offset: UInt64
    let shape: [UInt64]
    /// In elements; nil when row-major without gaps.
    let strides: [UInt64]?
    /// Bytes of the tensor's elements, each counted once a time it occurs.
    let byteCount: UInt64

    /// Why a view was refused.
    struct Problem: Error {
        let reason: String
    }

    /// - Parameter storageBytes: bytes of the storage that all elements must lie in.
    /// - Throws: when a number is negative, a product overflows, or an element lies outside the storage.
    init(_ tensor: PickleTensor, storageBytes: UInt64) throws(Problem) {
        let itemSize = UInt64(tensor.dtype.bits / 8)
        let start = try PyTorchView.unsigned(tensor.offset, "offset")
        var shape: [UInt64] = []
        for dim in tensor.shape { shape.append(try PyTorchView.unsigned(dim, "dimension")) }
        var strides: [UInt64] = []
        for stride in tensor.strides { strides.append(try PyTorchView.unsigned(stride, "stride")) }
        self.shape = shape

        if shape.contains(0) {
            // Nothing is read, wherever it says it starts.
            let (bytes, overflow) = start.multipliedReportingOverflow(by: itemSize)
            offset = overflow || bytes > storageBytes ? 0 : bytes
            self.strides = nil
            byteCount = 0
            return
        }
        guard let byteCount = tensor.dtype.byteCount(shape: shape) else {
            throw Problem(reason: "the size of \(tensor.dtype.name) \(shapeText(shape)) overflows 64 bits")
        }
        guard let last = PyTorchView.lastElement(start: start, shape: shape, strides: strides),
            last < storageBytes / itemSize
        else {
            throw Problem(
                reason: "\(tensor.dtype.name) \(shapeText(shape)) with strides \(shapeText(strides)) from element "
                    + "\(start) on goes outside its storage of \(storageBytes) bytes")
        }
        // No overflow: start is at most the last element, and that is inside the storage.
        offset = start * itemSize
        self.strides = PyTorchView.isContiguous(shape: shape, strides: strides) ? nil : strides
        self.byteCount = byteCount
    }

    private static func unsigned(_ value: Int64, _ what: String) throws(Problem) -> UInt64 {
        guard let result = UInt64(exactly: value) else { throw Problem(reason: "a negative \(what), \(value)") }
        return result
    }

    /// The index of the element farthest into the storage, or nil when it overflows. No dimension is zero.
    private static func lastElement(start: UInt64, shape: [UInt64], strides: [UInt64]) -> UInt64? {
        var last = start
        for (dim, stride) in zip(shape, strides) {
            let (step, overflow) = (dim - 1).multipliedReportingOverflow(by: stride)
            let (sum, carry) = last.addingReportingOverflow(step)
            if overflow || carry { return nil }
            last = sum
        }
        return last
    }

    /// Whether the strides are those of a row-major array; that of a dimension of size 1 does not matter.
    private static func isContiguous(shape: [UInt64], strides: [UInt64]) -> Bool {
        var expected: UInt64 = 1
        for (dim, stride) in zip(shape, strides).reversed() where dim != 1 {
            if stride != expected { return false }
            // The product of the dimensions was checked.
            expected *= dim
        }
        return true
    }
}
