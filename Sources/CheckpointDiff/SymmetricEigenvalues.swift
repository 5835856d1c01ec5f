/// The eigenvalues of a small symmetric matrix: Householder's reduction to a tridiagonal one, then implicit QL steps (EISPACK's tred1 and tql1).
///
/// Why not LAPACK: it would be the only use of a library larger than the program, for matrices of a few hundred rows.
enum SymmetricEigenvalues {
    /// The largest first.
    ///
    /// - Parameter matrix: rows of a symmetric matrix, one behind the other; its lower half is read.
    /// - Complexity: O(size^3).
    static func of(_ matrix: [Double], size: Int) -> [Double] {
        var (diagonal, below) = tridiagonal(matrix, size)
        for low in 0..<size { settle(low, &diagonal, &below) }
        return diagonal.sorted(by: >)
    }

    /// The diagonal and, at [1...], what is below it.
    private static func tridiagonal(_ matrix: [Double], _ size: Int) -> ([Double], [Double]) {
        var a = matrix
        var diagonal = [Double](repeating: 0, count: size)
        var below = diagonal
        var products = diagonal
        a.withUnsafeMutableBufferPointer { a in
            for last in stride(from: size - 1, through: 1, by: -1) {
                let row = last * size
                let scale = (0..<last).reduce(0) { $0 + abs(a[row + $1]) }
                guard last > 1, scale > 0 else {
                    below[last] = a[row + last - 1]
                    diagonal[last] = a[row + last]
                    continue
                }
                // The reflection's vector u takes the place of the row.
                var square = 0.0
                for k in 0..<last {
                    a[row + k] /= scale
                    square += a[row + k] * a[row + k]
                }
                let f = a[row + last - 1]
                let g = f >= 0 ? -square.squareRoot() : square.squareRoot()
                below[last] = scale * g
                let h = square - f * g
                a[row + last - 1] = f - g
                // p = A u / h, then A -= u q^T + q u^T with q = p - (u p / 2h) u.
                var along = 0.0
                for j in 0..<last {
                    var sum = 0.0
                    for k in 0...j { sum += a[j * size + k] * a[row + k] }
                    for k in (j + 1)..<max(j + 1, last) { sum += a[k * size + j] * a[row + k] }
                    products[j] = sum / h
                    along += products[j] * a[row + j]
                }
                let half = along / (2 * h)
                for j in 0..<last { products[j] -= half * a[row + j] }
                for j in 0..<last {
                    for k in 0...j { a[j * size + k] -= a[row + j] * products[k] + products[j] * a[row + k] }
                }
                diagonal[last] = a[row + last]
            }
            if size > 0 { diagonal[0] = a[0] }
        }
        return (diagonal, below)
    }

    /// QL steps until what is beside `low` is gone.
    private static func settle(_ low: Int, _ diagonal: inout [Double], _ below: inout [Double]) {
        let size = diagonal.count
        // Each step gains digits fast; of no matrix of numbers does it take more than some thirty.
        for _ in 0..<64 {
            var end = low
            while end < size - 1, abs(below[end + 1]) > .ulpOfOne * (abs(diagonal[end]) + abs(diagonal[end + 1])) { end += 1 }
            if end == low { return }
            var g = (diagonal[low + 1] - diagonal[low]) / (2 * below[low + 1])
            var r = (g * g + 1).squareRoot()
            g = diagonal[end] - diagonal[low] + below[low + 1] / (g + (g >= 0 ? r : -r))
            var (s, c, p) = (1.0, 1.0, 0.0)
            var isSplit = false
            for i in stride(from: end - 1, through: low, by: -1) {
                let f = s * below[i + 1]
                let b = c * below[i + 1]
                r = (f * f + g * g).squareRoot()
                if i + 2 < size { below[i + 2] = r }
                if r == 0 {
                    diagonal[i + 1] -= p
                    if end + 1 < size { below[end + 1] = 0 }
                    isSplit = true
                    break
                }
                s = f / r
                c = g / r
                g = diagonal[i + 1] - p
                r = (diagonal[i] - g) * s + 2 * c * b
                p = s * r
                diagonal[i + 1] = g + p
                g = c * r - b
            }
            if isSplit { continue }
            diagonal[low] -= p
            below[low + 1] = g
            if end + 1 < size { below[end + 1] = 0 }
        }
    }
}
