/// Reads arbitrary bytes as a PyTorch file: as a zip where they start like one, else as the pickle inside one.
func fuzz(_ bytes: [UInt8]) {
    let file = bytes.starts(with: "PK".utf8) ? bytes : archive(around: bytes)
    do throws(FormatError) {
        Invariants.check(try PyTorchFile.read(MemoryBytes(file, path: "fuzz")), size: file.count)
    } catch {
        precondition(!error.description.utf8.contains(UInt8(ascii: "\n")), "an error of several lines")
    }
}

/// A zip archive with `pickle` as its data.pkl and four storages of 64 bytes.
private func archive(around pickle: [UInt8]) -> [UInt8] {
    func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] { withUnsafeBytes(of: value.littleEndian, Array.init) }
    var bytes: [UInt8] = []
    var directory: [UInt8] = []
    let storages = (0..<4).map { (name: "a/data/\($0)", data: [UInt8](repeating: 1, count: 64)) }
    for (name, data) in [(name: "a/data.pkl", data: pickle)] + storages {
        let sizes = le(UInt32(0)) + le(UInt32(data.count)) + le(UInt32(data.count))
        let name = Array(name.utf8)
        directory += le(UInt32(0x0201_4b50)) + [UInt8](repeating: 0, count: 12) + sizes + le(UInt16(name.count))
        directory += [UInt8](repeating: 0, count: 12) + le(UInt32(bytes.count)) + name
        bytes += le(UInt32(0x0403_4b50)) + [UInt8](repeating: 0, count: 10) + sizes + le(UInt16(name.count))
        bytes += le(UInt16(0)) + name + data
    }
    let end = le(UInt16(5)) + le(UInt16(5)) + le(UInt32(directory.count)) + le(UInt32(bytes.count)) + le(UInt16(0))
    return bytes + directory + le(UInt32(0x0605_4b50)) + le(UInt32(0)) + end
}
