internal import CKernels

/// A vector or matrix of a model that is trained: where it lies among all of them.
package struct Parameter: Sendable {
    /// Floats from the start.
    package let offset: Int
    /// (columns) or (rows, columns)
    package let shape: [Int]

    /// 1 for a vector.
    package var rows: Int { isMatrix ? shape[0] : 1 }
    package var columns: Int { shape[shape.count - 1] }
    package var isMatrix: Bool { shape.count == 2 }

    package var count: Int { rows * columns }
}

/// All weights of a model that is trained, in single precision, and the gradient of each: two buffers of one layout.
///
/// Every parameter begins at a multiple of 64 bytes; what fills up is zero in both and stays so.
package final class Parameters {
    /// One parameter by the name its tensor has.
    package struct Entry {
        package var name: String
        package var parameter: Parameter
    }

    package private(set) var entries: [Entry] = []
    private var places: [String: Int] = [:]
    /// Floats in all.
    package private(set) var count = 0
    private let valueBuffer = FloatBuffer()
    private let gradientBuffer = FloatBuffer()
    /// (count), after `allocate`.
    package private(set) var values: UnsafeMutablePointer<Float>
    package private(set) var gradients: UnsafeMutablePointer<Float>

    init() {
        values = valueBuffer.data
        gradients = gradientBuffer.data
    }

    /// The parameter of that name: a new one, or the one that was asked for before (tied weights).
    func add(_ name: String, _ shape: Int...) -> Parameter {
        if let known = places[name] { return entries[known].parameter }
        places[name] = entries.count
        let parameter = Parameter(offset: count, shape: shape)
        entries.append(Entry(name: name, parameter: parameter))
        // Up to 2^60 each: what is past the limit is added up no further.
        if count <= Parameters.greatestCount { count = (count + parameter.count + 15) / 16 * 16 }
        return parameter
    }

    /// A terabyte of them.
    private static let greatestCount = 1 << 38

    /// Room for all that were added; zero.
    ///
    /// - Throws: `.unsupported` for more than any machine has room for.
    func allocate(_ path: String) throws(LanguageModelError) {
        guard count <= Parameters.greatestCount else {
            throw LanguageModelError(.unsupported, "\(path): it describes a model of more than \(Parameters.greatestCount) weights")
        }
        values = valueBuffer.matrix(1, count).data
        gradients = gradientBuffer.matrix(1, count).data
        values.update(repeating: 0, count: count)
        gradients.update(repeating: 0, count: count)
    }

    func value(_ parameter: Parameter) -> Matrix {
        Matrix(data: values + parameter.offset, rows: parameter.rows, columns: parameter.columns, stride: parameter.columns)
    }

    func gradient(_ parameter: Parameter) -> Matrix {
        Matrix(data: gradients + parameter.offset, rows: parameter.rows, columns: parameter.columns, stride: parameter.columns)
    }
}
