import Foundation
import TensorFormats
import Testing

/// The committed files that `tools/reference/formats` makes from the real libraries.
enum GoldenFiles {
    static let directory = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Golden/formats")

    static func bytes(_ name: String) throws -> [UInt8] {
        [UInt8](try Data(contentsOf: directory.appending(path: name)))
    }

    static func cases(_ name: String) throws -> [JSONValue] {
        try #require(JSONValue.parse(try bytes(name), path: name)["cases"]?.array)
    }
}

extension JSONValue {
    /// A string of hexadecimal digits as bytes.
    var hex: [UInt8] {
        let digits = Array((string ?? "").utf8).map { $0 < 0x3a ? $0 - 0x30 : $0 - 0x57 }
        return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
    }

    var unsignedArray: [UInt64]? { array?.compactMap(\.unsigned) }
}

/// The bytes of a tensor in row-major order, gathered one element at a time.
func contiguousBytes(of tensor: TensorFile.Tensor, in file: TensorFile, _ bytes: [UInt8]) -> [UInt8] {
    let storage = file.storages[tensor.storage]
    let start = Int(storage.offset + tensor.offset)
    guard let strides = tensor.strides else {
        return Array(bytes[start..<start + Int(tensor.dtype.byteCount(shape: tensor.shape)!)])
    }
    let item = tensor.dtype.bits / 8
    var places = [start]
    for (dim, stride) in zip(tensor.shape, strides) {
        places = places.flatMap { place in (0..<Int(dim)).map { place + $0 * Int(stride) * item } }
    }
    return places.flatMap { bytes[$0..<$0 + item] }
}

/// What must hold for every description that a reader returns. An empty answer is good.
func brokenInvariants(_ file: TensorFile) -> [String] {
    var broken: [String] = []
    var covered: UInt64 = 0
    for (index, storage) in file.storages.enumerated() {
        if storage.offset < covered { broken.append("storage \(index) overlaps or is out of order") }
        let (end, overflow) = storage.offset.addingReportingOverflow(storage.length)
        if overflow || end > file.size { broken.append("storage \(index) is outside the file") }
        if storage.dtype.byteCount(shape: storage.shape) != storage.length {
            broken.append("storage \(index) has another length than its shape")
        }
        covered = end
    }
    for (index, tensor) in file.tensors.enumerated() {
        if index > 0, ExactName(tensor.name) <= ExactName(file.tensors[index - 1].name) {
            broken.append("tensor \(index) is out of order or occurs twice")
        }
        let last = zip(tensor.shape, tensor.strides ?? []).reduce(UInt64(0)) { $0 + ($1.0 - 1) * $1.1 }
        let length =
            tensor.strides == nil
            ? tensor.dtype.byteCount(shape: tensor.shape)! : (last + 1) * UInt64(tensor.dtype.bits / 8)
        if tensor.offset + length > file.storages[tensor.storage].length {
            broken.append("tensor \(tensor.name) is outside its storage")
        }
    }
    return broken
}
