#if canImport(TensorFormats)
    import TensorFormats
#endif

/// Runs files through a target once, where there is no fuzzer: each as it is, cut at every byte and with every byte
/// changed.
@main
enum PlainDriver {
    static func main() throws {
        var runs = 0
        for path in CommandLine.arguments.dropFirst() {
            let file = try FileBytes(path: path)
            let bytes = try file.bytes(at: 0, count: Int(file.count))
            fuzz(bytes)
            for index in bytes.indices {
                fuzz(Array(bytes[..<index]))
                var changed = bytes
                changed[index] ^= 0xff
                fuzz(changed)
                runs += 2
            }
        }
        print("\(runs) runs, no crash")
    }
}
