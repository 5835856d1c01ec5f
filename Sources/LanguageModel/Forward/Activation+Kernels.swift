internal import CKernels

extension Activation {
    func forward(_ kernels: ck_forward_kernels) -> ck_activate_kernel {
        switch self {
        case .silu: kernels.silu
        case .gelu: kernels.gelu
        case .geluTanh: kernels.gelu_tanh
        case .relu: kernels.relu
        }
    }

    func backward(_ kernels: ck_backward_kernels) -> ck_activate_backward_kernel {
        switch self {
        case .silu: kernels.silu
        case .gelu: kernels.gelu
        case .geluTanh: kernels.gelu_tanh
        case .relu: kernels.relu
        }
    }

    /// `ck_activate_fn`
    typealias ck_activate_kernel = @convention(c) (UnsafeMutablePointer<Float>?, UnsafePointer<Float>?, Int) -> Void
    /// `ck_activate_backward_fn`
    typealias ck_activate_backward_kernel =
        @convention(c) (UnsafeMutablePointer<Float>?, UnsafeMutablePointer<Float>?, UnsafeMutablePointer<Float>?, Int) -> Void
}
