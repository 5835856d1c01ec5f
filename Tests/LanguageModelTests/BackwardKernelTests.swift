import CKernels
import Foundation
import TestSupport
import Testing

/// The kernels of a backward pass, the portable ones and all that this processor runs, against plain loops in Double. Everything
/// they read or write ends where memory ends.
@Suite struct BackwardKernelTests {
    static let sets = [ck_portable_backward_kernels(), ck_avx2_backward_kernels(), ck_avx512_backward_kernels()]
        .compactMap { $0?.pointee }
    static let counts = [1, 7, 15, 16, 17, 31, 33, 513]

    /// Rows of `count` floats, `stride` apart, and nothing behind the last.
    private static func rows(_ rows: Int, _ count: Int, _ stride: Int, _ scale: Double, seed: UInt64) -> [Float] {
        ForwardKernelTests.numbers((rows - 1) * stride + count, scale, seed: seed)
    }

    /// One of those that a kernel adds to or replaces, between rows that it must leave alone.
    private func expectRows(
        _ found: [Float], before: [Float], _ rows: Int, _ count: Int, _ stride: Int, within tolerance: Double,
        _ wanted: (_ row: Int, _ column: Int) -> Double, _ what: Comment
    ) {
        for (index, value) in found.enumerated() {
            let (row, column) = (index / stride, index % stride)
            if column < count {
                #expect(abs(Double(value) - wanted(row, column)) <= tolerance, what)
            } else {
                #expect(value == before[index], what)
            }
        }
    }

    // MARK: Norms

    /// A norm in Double: (x - mean) / sqrt(mean square + epsilon) with or without the mean.
    private struct PlainNorm {
        var hasMean: Bool
        var epsilon = 1e-5

        /// The scale s, and the row divided by it.
        func forward(_ x: [Double]) -> (s: Double, y: [Double]) {
            let mean = hasMean ? x.reduce(0, +) / Double(x.count) : 0
            let moved = x.map { $0 - mean }
            let s = 1 / (moved.reduce(0) { $0 + $1 * $1 } / Double(x.count) + epsilon).squareRoot()
            return (s, moved.map { $0 * s })
        }

        /// By the Jacobian, element by element: dy_j / dx_i = s (delta_ij - [mean] / n - y_i y_j / n).
        func backward(_ x: [Double], _ h: [Double]) -> [Double] {
            let (s, y) = forward(x)
            let n = Double(x.count)
            let products = zip(h, y).reduce(0) { $0 + $1.0 * $1.1 }
            let push = hasMean ? h.reduce(0, +) / n : 0
            return x.indices.map { s * (h[$0] - push - y[$0] * products / n) }
        }
    }

    @Test(arguments: [false, true], [false, true]) func `norms`(hasMean: Bool, isAdding: Bool) {
        let norm = PlainNorm(hasMean: hasMean)
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                for rowCount in [1, 3] {
                    let strides = (x: count + 3, dy: count + 1, dx: count + 2)
                    let x = BackwardKernelTests.rows(rowCount, count, strides.x, 2, seed: 1)
                    let dy = BackwardKernelTests.rows(rowCount, count, strides.dy, 3, seed: 2)
                    let dx = BackwardKernelTests.rows(rowCount, count, strides.dx, 1, seed: 3)
                    let gain = ForwardKernelTests.numbers(count, 1.5, seed: 4)
                    let sums = ForwardKernelTests.numbers(count, 1, seed: 5)
                    let (inX, inDY, outDX, inGain) = (GuardedFloats(x), GuardedFloats(dy), GuardedFloats(dx), GuardedFloats(gain))
                    let (gainSums, biasSums) = (GuardedFloats(sums), GuardedFloats(sums))
                    run(
                        kernels, hasMean, inX.pointer, strides.x, inGain.pointer, inDY.pointer, strides.dy, rowCount, count, outDX.pointer,
                        strides.dx, isAdding, gainSums.pointer, biasSums.pointer)

                    var wantedGain = sums.map(Double.init)
                    var wantedBias = wantedGain
                    var wanted: [[Double]] = []
                    var size = 1.0
                    for row in 0..<rowCount {
                        let xs = (0..<count).map { Double(x[row * strides.x + $0]) }
                        let ds = (0..<count).map { Double(dy[row * strides.dy + $0]) }
                        let (s, y) = norm.forward(xs)
                        for index in 0..<count {
                            wantedGain[index] += ds[index] * y[index]
                            wantedBias[index] += ds[index]
                        }
                        wanted.append(norm.backward(xs, zip(ds, gain).map { $0 * Double($1) }))
                        size = max(size, 5 * s)
                    }
                    expectRows(outDX.values, before: dx, rowCount, count, strides.dx, within: 2e-6 * size, { row, column in
                        wanted[row][column] + (isAdding ? Double(dx[row * strides.dx + column]) : 0)
                    }, "\(rowCount) x \(count)")
                    for index in 0..<count {
                        #expect(abs(Double(gainSums.values[index]) - wantedGain[index]) < 1e-5)
                        #expect(abs(Double(biasSums.values[index]) - (hasMean ? wantedBias[index] : Double(sums[index]))) < 1e-5)
                    }

                    // dx in the place of dy, as norms of heads take it.
                    let shared = GuardedFloats(dy)
                    run(
                        kernels, hasMean, inX.pointer, strides.x, inGain.pointer, shared.pointer, strides.dy, rowCount, count, shared.pointer,
                        strides.dy, false, gainSums.pointer, biasSums.pointer)
                    expectRows(
                        shared.values, before: dy, rowCount, count, strides.dy, within: 2e-6 * size, { wanted[$0][$1] }, "in place, \(count)")
                }
            }
        }
    }

    private func run(
        _ kernels: ck_backward_kernels, _ hasMean: Bool, _ x: UnsafePointer<Float>, _ stride: Int, _ gain: UnsafePointer<Float>,
        _ dy: UnsafePointer<Float>, _ dyStride: Int, _ rows: Int, _ n: Int, _ dx: UnsafeMutablePointer<Float>, _ dxStride: Int,
        _ isAdding: Bool, _ gainSums: UnsafeMutablePointer<Float>, _ biasSums: UnsafeMutablePointer<Float>
    ) {
        if hasMean {
            kernels.layer_norm(x, stride, gain, dy, dyStride, rows, n, 1e-5, dx, dxStride, isAdding ? 1 : 0, gainSums, biasSums)
        } else {
            kernels.rms_norm(x, stride, gain, dy, dyStride, rows, n, 1e-5, dx, dxStride, isAdding ? 1 : 0, gainSums)
        }
    }

    // MARK: Positions

    @Test func `turned and turned back is as before`() {
        let forward = ck_portable_forward_kernels()!.pointee
        for kernels in BackwardKernelTests.sets {
            for half in BackwardKernelTests.counts {
                let stride = 2 * half + 3
                let row = BackwardKernelTests.rows(3, 2 * half, stride, 2, seed: 6)
                let angles = ForwardKernelTests.numbers(half, 3, seed: 7)
                let cosines = GuardedFloats(angles.map { Float(cos(Double($0))) })
                let sines = GuardedFloats(angles.map { Float(sin(Double($0))) })
                let found = GuardedFloats(row)
                kernels.rotate_back(found.pointer, 3, stride, half, cosines.pointer, sines.pointer)
                expectRows(found.values, before: row, 3, 2 * half, stride, within: 2e-6, { head, column in
                    let index = column % half
                    let (a, b) = (Double(row[head * stride + index]), Double(row[head * stride + index + half]))
                    let angle = -Double(angles[index])
                    return column < half ? a * cos(angle) - b * sin(angle) : b * cos(angle) + a * sin(angle)
                }, "\(half)")
                forward.rotate(found.pointer, 3, stride, half, cosines.pointer, sines.pointer)
                expectRows(found.values, before: row, 3, 2 * half, stride, within: 2e-6, { Double(row[$0 * stride + $1]) }, "\(half)")
            }
        }
    }

    // MARK: Activations

    typealias Activate =
        @convention(c) (UnsafeMutablePointer<Float>?, UnsafeMutablePointer<Float>?, UnsafeMutablePointer<Float>?, Int) -> Void

    @Test(arguments: [false, true]) func `activations`(hasUp: Bool) {
        let root = (2 / Double.pi).squareRoot()
        func normal(_ x: Double) -> Double { 0.5 * (1 + erf(x / 2.0.squareRoot())) }
        func bend(_ x: Double) -> Double { tanh(root * (x + 0.044715 * x * x * x)) }
        func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }
        for kernels in BackwardKernelTests.sets {
            let kinds: [(kernel: Activate, value: (Double) -> Double, slope: (Double) -> Double)] = [
                (kernels.silu, { $0 * sigmoid($0) }, { sigmoid($0) * (1 + $0 * (1 - sigmoid($0))) }),
                (kernels.gelu, { $0 * normal($0) }, { normal($0) + $0 * exp(-$0 * $0 / 2) / (2 * Double.pi).squareRoot() }),
                (
                    kernels.gelu_tanh, { 0.5 * $0 * (1 + bend($0)) },
                    { 0.5 * (1 + bend($0)) + 0.5 * $0 * (1 - bend($0) * bend($0)) * root * (1 + 3 * 0.044715 * $0 * $0) }
                ),
                (kernels.relu, { max(0, $0) }, { $0 > 0 ? 1 : 0 }),
            ]
            for count in BackwardKernelTests.counts {
                for scale in [0.1, 4, 60] {
                    let gate = ForwardKernelTests.numbers(count, scale, seed: UInt64(count))
                    let up = ForwardKernelTests.numbers(count, 2, seed: 8)
                    let d = ForwardKernelTests.numbers(count, 2, seed: 9)
                    for kind in kinds {
                        let (gates, ups, inner) = (GuardedFloats(gate), GuardedFloats(up), GuardedFloats(d))
                        kind.kernel(gates.pointer, hasUp ? ups.pointer : nil, inner.pointer, count)
                        let (dGate, dUp, value) = (gates.values, ups.values, inner.values)
                        let tolerance = 4e-6 * (1 + scale)
                        for index in 0..<count {
                            let (x, u, di) = (Double(gate[index]), hasUp ? Double(up[index]) : 1, Double(d[index]))
                            #expect(abs(Double(dGate[index]) - di * u * kind.slope(x)) < tolerance)
                            #expect(abs(Double(value[index]) - u * kind.value(x)) < tolerance)
                            #expect(hasUp ? abs(Double(dUp[index]) - di * kind.value(x)) < tolerance : dUp[index] == up[index])
                        }
                    }
                }
            }
        }
    }

    // MARK: Softmax and loss

    @Test func `softmax keeps to its range`() {
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                for (first, end) in [(0, count), (count / 3, count), (count / 3, count - count / 4), (count / 2, count / 2 + 1)] {
                    let scores = ForwardKernelTests.numbers(count, 3, seed: 10)
                    let sum = scores[first..<end].reduce(0) { $0 + exp(Double($1)) }
                    let p = scores.map { Float(exp(Double($0)) / sum) }
                    let dp = ForwardKernelTests.numbers(count, 2, seed: 11)
                    let (inP, out) = (GuardedFloats(p), GuardedFloats(dp))
                    kernels.softmax(inP.pointer, out.pointer, first, end, count, 0.37)
                    let mean = (first..<end).reduce(0) { $0 + Double(p[$1]) * Double(dp[$1]) }
                    for (index, value) in out.values.enumerated() {
                        let wanted = (first..<end).contains(index) ? 0.37 * Double(p[index]) * (Double(dp[index]) - mean) : 0
                        #expect(abs(Double(value) - wanted) < 1e-6, "\(first) ..< \(end) of \(count)")
                    }
                    #expect(inP.values == p)
                }
            }
        }
    }

    @Test func `gradient of cross-entropy`() {
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                for scale in [1.0, 40] {
                    let z = ForwardKernelTests.numbers(count, scale, seed: 12)
                    let logSum = log(z.reduce(0) { $0 + exp(Double($1)) })
                    let out = GuardedFloats(z)
                    kernels.probability_gradient(out.pointer, count, Float(logSum), 0.25, 0.01)
                    for (value, logit) in zip(out.values, z) {
                        // The sum of the exponents is rounded to single precision, as its argument is.
                        let tolerance = 1e-6 * (1 + abs(logSum) / 4)
                        #expect(abs(Double(value) - (0.25 * exp(Double(logit) - logSum) - 0.01)) < tolerance)
                    }
                }
            }
        }
    }

    // MARK: Sums

    @Test func `mixing`() {
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                let (x, y) = (ForwardKernelTests.numbers(count, 5, seed: 13), ForwardKernelTests.numbers(count, 5, seed: 14))
                let (out, other) = (GuardedFloats(x), GuardedFloats(y))
                kernels.mix(out.pointer, other.pointer, count, 0.42, 0.58)
                for (index, value) in out.values.enumerated() {
                    #expect(abs(Double(value) - (0.42 * Double(x[index]) + 0.58 * Double(y[index]))) < 2e-6)
                }
                // With itself: a temperature.
                kernels.mix(other.pointer, other.pointer, count, 0.5, 0)
                #expect(other.values == y.map { $0 / 2 })
            }
        }
    }

    @Test func `rows are added to what is there`() {
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                for rowCount in [0, 1, 5] {
                    let stride = count + 3
                    let x = BackwardKernelTests.rows(max(1, rowCount), count, stride, 2, seed: 15)
                    let start = ForwardKernelTests.numbers(count, 2, seed: 16)
                    let (rows, out) = (GuardedFloats(x), GuardedFloats(start))
                    kernels.add_rows(rows.pointer, stride, rowCount, count, out.pointer)
                    for (index, value) in out.values.enumerated() {
                        let wanted = (0..<rowCount).reduce(Double(start[index])) { $0 + Double(x[$1 * stride + index]) }
                        #expect(abs(Double(value) - wanted) < 4e-6)
                    }
                }
            }
        }
    }

    @Test func `sums of squares`() {
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts + [0, 511, 512, 5000] {
                for scale in [1e-12, 1, 1e12] {
                    let x = ForwardKernelTests.numbers(count, scale, seed: 17)
                    let wanted = x.reduce(0) { $0 + Double($1) * Double($1) }
                    let guarded = GuardedFloats(x)
                    let sum = kernels.square_sum(guarded.pointer, count)
                    #expect(abs(sum - wanted) <= 1e-6 * wanted)
                }
            }
        }
    }

    // MARK: Steps

    @Test func `twenty steps of AdamW`() {
        let (beta1, beta2, epsilon, rate, decay) = (0.9, 0.999, 1e-8, 0.01, 0.1)
        for kernels in BackwardKernelTests.sets {
            for count in BackwardKernelTests.counts {
                let start = ForwardKernelTests.numbers(count, 1, seed: 18)
                let zeros = [Float](repeating: 0, count: count)
                let (weight, gradient) = (GuardedFloats(start), GuardedFloats(zeros))
                let (first, second) = (GuardedFloats(zeros), GuardedFloats(zeros))
                var plain = (weight: start.map(Double.init), first: zeros.map(Double.init), second: zeros.map(Double.init))
                for step in 1...20 {
                    let d = ForwardKernelTests.numbers(count, 2, seed: UInt64(100 + step))
                    gradient.pointer.update(from: d, count: count)
                    let clip = step % 3 == 0 ? 0.25 : 1
                    var settings = ck_adamw(
                        clip: Float(clip), rate: Float(rate / (1 - pow(beta1, Double(step)))), keep: Float(1 - rate * decay),
                        beta1: Float(beta1), beta2: Float(beta2), root: Float(1 / (1 - pow(beta2, Double(step))).squareRoot()),
                        epsilon: Float(epsilon))
                    kernels.adamw(weight.pointer, gradient.pointer, first.pointer, second.pointer, count, &settings)
                    #expect(gradient.values == zeros)
                    for index in 0..<count {
                        let g = clip * Double(d[index])
                        plain.first[index] = beta1 * plain.first[index] + (1 - beta1) * g
                        plain.second[index] = beta2 * plain.second[index] + (1 - beta2) * g * g
                        let m = plain.first[index] / (1 - pow(beta1, Double(step)))
                        let v = plain.second[index] / (1 - pow(beta2, Double(step)))
                        plain.weight[index] -= rate * decay * plain.weight[index]
                        plain.weight[index] -= rate * m / (v.squareRoot() + epsilon)
                    }
                }
                func expect(_ found: GuardedFloats, _ wanted: [Double], _ tolerance: Double) {
                    for (a, b) in zip(found.values, wanted) { #expect(abs(Double(a) - b) < tolerance) }
                }
                expect(weight, plain.weight, 5e-6)
                expect(first, plain.first, 2e-6)
                // beta2 in single precision: 1 - beta2 is off by 1.3e-5 of itself.
                expect(second, plain.second, 2e-6)
            }
        }
    }
}
