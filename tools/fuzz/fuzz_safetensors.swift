/// Reads arbitrary bytes as a safetensors file. What is accepted has no holes: header and storages are the file.
func fuzz(_ bytes: [UInt8]) {
    do throws(FormatError) {
        let file = try Safetensors.read(MemoryBytes(bytes, path: "fuzz"))
        Invariants.check(file, size: bytes.count)
        var covered = 8 + bytes.littleEndian(UInt64.self, at: 0)
        for storage in file.storages {
            precondition(storage.offset == covered, "a hole")
            covered += storage.length
        }
        precondition(covered == file.size, "trailing bytes")
    } catch {
        precondition(!error.description.utf8.contains(UInt8(ascii: "\n")), "an error of several lines")
    }
}
