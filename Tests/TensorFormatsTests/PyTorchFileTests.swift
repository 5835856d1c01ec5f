import TensorFormats
import Testing

@Suite struct PyTorchFileTests {
    static func cases() throws -> [JSONValue] { try GoldenFiles.cases("torch-cases.json") }

    /// Names, dtypes, shapes, strides and bytes as torch.load gives them.
    @Test func agreesWithTorch() throws {
        let cases = try PyTorchFileTests.cases()
        #expect(cases.count > 30)
        for expected in cases {
            let name = try #require(expected["file"]?.string)
            let bytes = try GoldenFiles.bytes(name)
            if let code = expected["error"]?.string {
                let error = #expect(throws: FormatError.self) { try PyTorchFile.read(MemoryBytes(bytes, path: name)) }
                #expect(error?.code == (code == "unsupported" ? .unsupported : .malformed), "\(name)")
                continue
            }
            let file: TensorFile
            do {
                file = try PyTorchFile.read(MemoryBytes(bytes, path: name))
            } catch {
                Issue.record("\(error)")
                continue
            }
            let tensors = try #require(expected["tensors"]?.array)
            #expect(brokenInvariants(file) == [], "\(name)")
            #expect(file.tensors.map(\.name) == tensors.compactMap { $0["name"]?.string }, "\(name)")
            #expect(file.storages.count == expected["storages"]?.unsigned.map(Int.init), "\(name)")
            #expect(file.skipped == expected["skipped"]?.array?.compactMap(\.string), "\(name)")
            for (tensor, wanted) in zip(file.tensors, tensors) {
                #expect(tensor.dtype.name == wanted["dtype"]?.string, "\(name) \(tensor.name)")
                #expect(tensor.shape == wanted["shape"]?.unsignedArray, "\(name) \(tensor.name)")
                #expect(tensor.strides == wanted["strides"]?.unsignedArray, "\(name) \(tensor.name)")
                #expect(contiguousBytes(of: tensor, in: file, bytes) == wanted["data"]?.hex, "\(name) \(tensor.name)")
            }
        }
    }

    /// The shape a storage is cut by is that of the one tensor that covers it.
    @Test(
        arguments: [
            ("tied", [(DType.bf16, [5, 3])]),
            ("fused", [(.f32, [6, 4])]),
            ("partial", [(.f32, [16]), (.f32, [2, 3])]),
            ("two-shapes", [(.f32, [6])]),
            ("uint16-view", [(.u16, [4])]),
            ("uint16-partial", [(.u16, [4])]),
            ("bare", [(.f32, [2, 2])]),
            ("storage", [(.u8, [16]), (.f32, [2])]),
        ] as [(String, [(DType, [UInt64])])])
    func storageShapes(name: String, expected: [(DType, [UInt64])]) throws {
        let bytes = try GoldenFiles.bytes("torch/\(name).pt")
        let file = try PyTorchFile.read(MemoryBytes(bytes, path: name))
        #expect(file.storages.map(\.dtype) == expected.map(\.0))
        #expect(file.storages.map(\.shape) == expected.map(\.1))
    }

    /// The directory of a zip is its end, so every cut is seen.
    @Test(arguments: ["adamw", "zip64", "zip-descriptors"])
    func cutAtEveryByte(name: String) throws {
        let whole = try GoldenFiles.bytes("torch/\(name).pt")
        for length in 0..<whole.count {
            let error = #expect(throws: FormatError.self) {
                try PyTorchFile.read(MemoryBytes(Array(whole[..<length]), path: name))
            }
            #expect(error?.code == .truncated, "\(length): \(error?.description ?? "")")
        }
    }

    /// No change of one byte makes the reader crash or return a description that does not hold.
    @Test func everyByteChanged() throws {
        let whole = try GoldenFiles.bytes("torch/two-shapes.pt")
        for index in whole.indices {
            for change: UInt8 in [0x01, 0x80, 0xff] {
                var bytes = whole
                bytes[index] ^= change
                guard let file = try? PyTorchFile.read(MemoryBytes(bytes, path: "changed")) else { continue }
                #expect(brokenInvariants(file) == [], "byte \(index)")
            }
        }
    }

    @Test func otherFiles() throws {
        for bytes in [Array("{}".utf8), Array("PK\u{5}\u{6}".utf8), [0x80, 2, 0x8a]] {
            let error = #expect(throws: FormatError.self) { try PyTorchFile.read(MemoryBytes(bytes, path: "x")) }
            #expect(error?.code == .unsupported)
        }
        let zip = ArchiveBuilder([.init(name: "docs/readme", data: [1])]).build()
        let error = #expect(throws: FormatError.self) { try PyTorchFile.read(MemoryBytes(zip, path: "x")) }
        #expect(error?.code == .unsupported)
    }

    @Test func compressedEntries() throws {
        for (pickle, storage) in [(8, 0), (0, 8)] as [(UInt16, UInt16)] {
            let archive = ArchiveBuilder([
                .init(name: "a/data.pkl", data: [0x80, 2, 0x4e, 0x2e], method: pickle),
                .init(name: "a/data/0", data: [0, 0, 0, 0], method: storage),
            ]).build()
            let file = try? PyTorchFile.read(MemoryBytes(archive, path: "x"))
            // A compressed entry that nothing names does not matter.
            #expect((file == nil) == (pickle == 8))
        }
    }
}
