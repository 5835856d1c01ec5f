/// Rows of floats in memory that someone else owns: `stride` floats from row to row.
struct Matrix {
    let data: UnsafeMutablePointer<Float>
    let rows: Int
    let columns: Int
    let stride: Int

    subscript(rows range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= rows)
        return Matrix(data: data + range.lowerBound * stride, rows: range.count, columns: columns, stride: stride)
    }

    subscript(columns range: Range<Int>) -> Matrix {
        precondition(range.lowerBound >= 0 && range.upperBound <= columns)
        return Matrix(data: data + range.lowerBound, rows: rows, columns: range.count, stride: stride)
    }

    func row(_ index: Int) -> UnsafeMutablePointer<Float> { data + index * stride }
}

/// Memory for floats, 64-byte aligned, that grows when more is asked for and is reused.
package final class FloatBuffer {
    package private(set) var data: UnsafeMutablePointer<Float>
    private var capacity: Int

    package init(capacity: Int = 0) {
        self.capacity = capacity
        data = FloatBuffer.allocate(capacity)
    }

    deinit { UnsafeMutableRawPointer(data).deallocate() }

    private static func allocate(_ count: Int) -> UnsafeMutablePointer<Float> {
        UnsafeMutableRawPointer.allocate(byteCount: max(64, count * 4), alignment: 64).assumingMemoryBound(to: Float.self)
    }

    /// Room for a matrix; what was in it is lost when it has to grow.
    func matrix(_ rows: Int, _ columns: Int) -> Matrix {
        let count = rows * columns
        if count > capacity {
            UnsafeMutableRawPointer(data).deallocate()
            data = FloatBuffer.allocate(count)
            capacity = count
        }
        return Matrix(data: data, rows: rows, columns: columns, stride: columns)
    }

    /// Room for a panel of a dense product. What fills its last strip up is zero: no product stores it, but numbers left over
    /// from elsewhere could be ones that processors are slow at.
    func panel(columns: Int, rows: Int, strip: Int) -> UnsafeMutablePointer<Float> {
        let strips = (columns + strip - 1) / strip
        let data = matrix(strips, strip * rows).data
        if columns % strip > 0 { (data + (strips - 1) * strip * rows).update(repeating: 0, count: strip * rows) }
        return data
    }
}
