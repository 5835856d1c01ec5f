internal import CKernels
internal import TensorFormats

/// Words of a checkpoint to single precision, exactly.
enum Widening {
    private static let kernels = ck_active_forward_kernels().pointee

    static func floats(_ bytes: UnsafeRawBufferPointer, _ dtype: DType, into out: UnsafeMutablePointer<Float>) {
        switch dtype {
        case .bf16: kernels.widen_bf16(bytes.baseAddress, bytes.count / 2, out)
        case .f16: kernels.widen_f16(bytes.baseAddress, bytes.count / 2, out)
        default: UnsafeMutableRawPointer(out).copyMemory(from: bytes.baseAddress!, byteCount: bytes.count)
        }
    }
}
