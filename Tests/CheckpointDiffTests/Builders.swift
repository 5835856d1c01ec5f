import Foundation
import TensorFormats
import TestSupport

@testable import CheckpointDiff
@testable import CheckpointStore

/// A tensor to be written to a file.
struct Written: Sendable {
    var name: String
    var dtype: DType
    var shape: [UInt64]
    var bytes: [UInt8]

    /// Of bytes that follow from `seed`.
    static func random(_ name: String, _ dtype: DType, _ shape: [UInt64], seed: UInt64) -> Written {
        var generator = SeededGenerator(seed: seed)
        let count = Int(dtype.byteCount(shape: shape)!)
        return Written(name: name, dtype: dtype, shape: shape, bytes: generator.bytes(count))
    }
}

extension SeededGenerator {
    mutating func bytes(_ count: Int) -> [UInt8] {
        let words = (count + 7) / 8
        return [UInt8](unsafeUninitializedCapacity: words * 8) { target, initialized in
            for index in 0..<words {
                var word = next()
                memcpy(target.baseAddress! + index * 8, &word, 8)
            }
            initialized = count
        }
    }
}

extension TemporaryDirectory {
    /// Writes a safetensors file of `tensors`, with its directories.
    @discardableResult
    func write(_ path: String, _ tensors: [Written]) throws -> String {
        var entries: [String] = []
        var data: [UInt8] = []
        for tensor in tensors {
            let (start, end) = (data.count, data.count + tensor.bytes.count)
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            entries.append(
                #""\#(tensor.name)":{"dtype":"\#(tensor.dtype.name)","shape":[\#(shape)],"data_offsets":[\#(start),\#(end)]}"#)
            data += tensor.bytes
        }
        let header = Array("{\(entries.joined(separator: ","))}".utf8)
        let file = URL(filePath: self.path + "/" + path)
        try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        let length = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
        try Data(length + header + data).write(to: file)
        return self.path + "/" + path
    }
}

/// A store with a run `r`, whose snapshots are made of written tensors, and the files that they were taken from.
struct History {
    let directory: TemporaryDirectory
    let store: Store
    private(set) var paths: [String] = []
    var options = IngestOptions()

    init() throws {
        directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store")
        store = try Store.open(directory.path + "/store")
        options.run = "r"
        options.makesImage = false
    }

    /// Takes in the next snapshot, at step 0, 1, 2, ... or the one given.
    mutating func add(_ tensors: [Written], step: UInt64? = nil) throws {
        paths.append(try directory.write("\(paths.count)/model.safetensors", tensors))
        options.step = step ?? UInt64(paths.count - 1)
        try store.ingest(paths[paths.count - 1], options: options)
    }

    func file(_ index: Int) throws -> CheckpointContents { try CheckpointContents(path: paths[index]) }
    /// The snapshot at a step.
    func snapshot(_ step: Int) throws -> CheckpointContents { try store.contents("r@\(step)") }
    func stops() throws -> [Trajectory.Stop] { try store.history(of: "r").map { Trajectory.Stop(ref: "r@\($0.step)", step: $0.step) } }
}

extension CheckpointDelta {
    subscript(_ name: String) -> WeightDelta? { compared.first { $0.name == name } }
}

/// All that a comparison says of one tensor, bit for bit.
struct Sums: Equatable, CustomStringConvertible {
    var name: String
    var counts: [UInt64]
    var bits: [UInt64]

    init(_ delta: WeightDelta) {
        name = delta.name
        counts = [delta.words, delta.changed, delta.signFlips, delta.nonfinite]
        bits = [delta.sumFirst, delta.sumSecond, delta.sumDelta, delta.maxAbs].map(\.bitPattern)
        if let movement = delta.movement {
            counts += movement.ulpCounts
            bits += ([movement.ulps] + (movement.rows ?? []) + (movement.columns ?? [])).map(\.bitPattern)
        }
    }

    var description: String { "\(name): \(counts) \(bits.map { Double(bitPattern: $0) })" }
}

extension CheckpointDelta {
    var sums: [Sums] { compared.map { Sums($0) } }
}

/// Calls `body` with this thread bound to the first `count` of its processors.
func withProcessors<R>(_ count: Int, _ body: () throws -> R) throws -> R {
    #if os(Linux)
    // Hidden behind _GNU_SOURCE: looked up by name.
    typealias Function = @convention(c) (pid_t, Int, UnsafeMutableRawPointer) -> Int32
    guard let get = dlsym(nil, "sched_getaffinity"), let set = dlsym(nil, "sched_setaffinity") else { throw POSIXError(.ENOSYS) }
    let (getAffinity, setAffinity) = (unsafeBitCast(get, to: Function.self), unsafeBitCast(set, to: Function.self))
    var old = [UInt8](repeating: 0, count: 128)
    guard getAffinity(0, old.count, &old) >= 0 else { throw POSIXError(.EIO) }
    var new = [UInt8](repeating: 0, count: 128)
    var left = count
    for bit in 0..<1024 where left > 0 && old[bit / 8] >> UInt8(bit % 8) & 1 == 1 {
        new[bit / 8] |= 1 << UInt8(bit % 8)
        left -= 1
    }
    guard setAffinity(0, new.count, &new) == 0 else { throw POSIXError(.EIO) }
    defer { _ = setAffinity(0, old.count, &old) }
    #endif
    return try body()
}
