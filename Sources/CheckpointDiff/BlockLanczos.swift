internal import CKernels

/// The largest singular values of a matrix d that is only known by products d^T (d v) with blocks of a few vectors: block Lanczos with full
/// reorthogonalisation, from random vectors (Golub and Underwood 1977; that random vectors find the leading values of any matrix: Musco and Musco,
/// arXiv 1504.05477).
struct BlockLanczos {
    private static let width = Int(ck_gram_width)
    /// Values that lack less than this share are settled. Where none leads, what is lacking falls with the square of the number of steps at worst
    /// (Kuczynski and Wozniakowski 1992), so that it is about half as many times the change of one step as there are steps.
    private static let tolerance = 5e-3
    /// Below this share of the largest, what is found is rounding: squares were looked at.
    static let floor = 1e-7
    private static let maximumSteps = 80
    /// Whether the values are looked at behind a step: not behind each, for that takes as long as a step does.
    private static func isLooked(at step: Int) -> Bool { step < 4 || step % 2 == 0 && step < 12 || step % 3 == 0 && step < 30 || step % 6 == 0 }
    /// Numbers that the basis may have: 160 MiB.
    private static let basisNumbers = 20 << 20

    private let kernels: ck_gram_kernels
    private let size: Int

    /// - Parameter size: columns of d.
    init(size: Int, kernels: ck_gram_kernels = ck_active_gram_kernels().pointee) {
        self.size = size
        self.kernels = kernels
    }

    /// Whether a basis for matrices of so many columns fits the memory that it may take.
    static func isPossible(size: Int) -> Bool { size * width * 14 <= basisNumbers }

    /// What was found.
    struct Found {
        /// The largest first.
        var values: [Double] = []
        /// Whether they are settled, and not only the best that there was room or time for.
        var isSettled = true
    }

    /// The `count` largest; fewer where the rank is lower, or the rest is rounding.
    ///
    /// - Parameters:
    ///   - rank: what the rank cannot be above.
    ///   - multiply: sets its second argument to d^T (d v) of its first, both (size, width), row-major.
    /// - Complexity: some 10 to 30 products, and O(size x (8 x products)^2) beside.
    func leading(
        _ count: Int, rank: Int, multiply: (_ v: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>) throws -> Void
    ) rethrows -> Found {
        let width = BlockLanczos.width
        let numbers = size * width
        let last = min(BlockLanczos.maximumSteps, BlockLanczos.basisNumbers / numbers - 1)
        var basis: [UnsafeMutablePointer<Double>] = []
        defer { for block in basis { block.deallocate() } }
        var projections: [[Double]] = []
        var found = Found()
        var random = SplitMix(state: UInt64(size))
        func begin(_ block: UnsafeMutablePointer<Double>, before known: [UnsafeMutablePointer<Double>]) -> Int {
            for index in 0..<numbers { block[index] = random.next() }
            removeKnown(known, from: block)
            return orthonormalise(block, before: known, largestSquare: 0)
        }
        basis.append(.allocate(capacity: numbers))
        // Columns of the basis that are not zero.
        var columns = begin(basis[0], before: [])
        var lastLook = 0
        // Of the lengths of d along the vectors of the basis.
        var largestSquare = 0.0
        var step = 1
        while columns > 0 {
            let next = UnsafeMutablePointer<Double>.allocate(capacity: numbers)
            basis.append(next)
            try multiply(basis[step - 1], next)
            let known = Array(basis.dropLast())
            projections.append(known.flatMap { inner($0, next) })
            for index in 0..<width { largestSquare = max(largestSquare, projections[step - 1][((step - 1) * width + index) * width + index]) }
            let isWhole = columns >= min(rank, size)
            if step >= last || isWhole || BlockLanczos.isLooked(at: step) {
                let before = found.values
                found.values = singularValues(projections, count)
                // Half the steps so far times the change of one.
                let lacking = Double(step) / Double(2 * (step - lastLook))
                found.isSettled = isWhole || step > 2 && before.count == found.values.count
                    && zip(before, found.values).allSatisfy { abs($0 - $1) * max(1, lacking) <= BlockLanczos.tolerance * $1 }
                if found.isSettled || step >= last { return found }
                lastLook = step
            }
            removeKnown(known, from: next)
            var added = orthonormalise(next, before: known, largestSquare: largestSquare)
            // All that these directions lead to is known. There may be more like them: of equal values, a block finds no more than it has columns.
            if added == 0 { added = begin(next, before: known) }
            guard added > 0 else {
                found.values = singularValues(projections, count)
                found.isSettled = true
                return found
            }
            columns += added
            step += 1
        }
        return found
    }

    /// Twice is enough (Kahan and Parlett): what is left along the basis after one subtraction is rounding of the first.
    private func removeKnown(_ known: [UnsafeMutablePointer<Double>], from block: UnsafeMutablePointer<Double>) {
        for _ in 0..<2 {
            for other in known { combine(other, inner(other, block).map { -$0 }, 1, block) }
        }
    }

    /// Those of the matrix in the basis so far, whose column of blocks `step` is `projections[step]`.
    private func singularValues(_ projections: [[Double]], _ count: Int) -> [Double] {
        let width = BlockLanczos.width
        let size = projections.count * width
        var matrix = [Double](repeating: 0, count: size * size)
        for (step, projection) in projections.enumerated() {
            for row in 0..<(projection.count / width) {
                for column in 0..<width {
                    matrix[row * size + step * width + column] = projection[row * width + column]
                    matrix[(step * width + column) * size + row] = projection[row * width + column]
                }
            }
        }
        let squares = SymmetricEigenvalues.of(matrix, size: size).prefix(count)
        let least = (squares.first ?? 0) * BlockLanczos.floor * BlockLanczos.floor
        return squares.filter { $0 > least && $0 > 0 }.map { $0.squareRoot() }
    }

    private func inner(_ k: UnsafePointer<Double>, _ w: UnsafePointer<Double>) -> [Double] {
        [Double](unsafeUninitializedCapacity: BlockLanczos.width * BlockLanczos.width) { target, initialized in
            kernels.inner(k, w, size, target.baseAddress)
            initialized = target.count
        }
    }

    private func combine(_ k: UnsafePointer<Double>, _ h: [Double], _ scale: Double, _ w: UnsafeMutablePointer<Double>) {
        kernels.combine(k, h, size, scale, w)
    }

    /// Makes the columns of a block orthonormal by Cholesky's factor of their products, twice (Yamamoto and others 2015). Columns that depend on others
    /// become zero: they stand for nothing then, and their rows and columns of the projected matrix are zero too.
    ///
    /// - Parameter largestSquare: the square of about the largest singular value: against it, what is left of a block may be nothing but rounding.
    /// - Returns: columns that are left.
    private func orthonormalise(_ block: UnsafeMutablePointer<Double>, before known: [UnsafeMutablePointer<Double>], largestSquare: Double) -> Int {
        let width = BlockLanczos.width
        var left = 0
        for round in 0..<3 {
            let products = inner(block, block)
            let least = round == 0 ? largestSquare * largestSquare * 1e-28 : 0
            let inverse = BlockLanczos.inverseFactor(products, least: least)
            left = (0..<width).count { inverse[$0 * width + $0] > 0 }
            combine(block, inverse, 0, block)
            // Small columns that were made long are no longer quite orthogonal to the rest.
            if round == 0 { for other in known { combine(other, inner(other, block).map { -$0 }, 1, block) } }
        }
        return left
    }

    /// The inverse of R for products R^T R of columns; with zeros for columns of which nothing is left beside those before them.
    private static func inverseFactor(_ products: [Double], least: Double) -> [Double] {
        var factor = [Double](repeating: 0, count: width * width)
        var inverse = factor
        for column in 0..<width {
            var rest = products[column * width + column]
            for row in 0..<column {
                guard factor[row * width + row] > 0 else { continue }
                var sum = products[row * width + column]
                for k in 0..<row { sum -= factor[k * width + row] * factor[k * width + column] }
                factor[row * width + column] = sum / factor[row * width + row]
                rest -= factor[row * width + column] * factor[row * width + column]
            }
            guard rest > least, rest > products[column * width + column] * 1e-14 else { continue }
            factor[column * width + column] = rest.squareRoot()
            inverse[column * width + column] = 1 / factor[column * width + column]
            for row in stride(from: column - 1, through: 0, by: -1) where factor[row * width + row] > 0 {
                var sum = 0.0
                for k in (row + 1)...column { sum += factor[row * width + k] * inverse[k * width + column] }
                inverse[row * width + column] = -sum / factor[row * width + row]
            }
        }
        return inverse
    }
}

/// Random numbers to start from, the same every time (SplitMix64: Steele, Lea and Flood 2014), from -1 to 1.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> Double {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return Double(Int64(bitPattern: z ^ z >> 31)) * 0x1p-63
    }
}
