import TensorFormats
import Testing

/// A safetensors file from its header.
func safetensors(_ header: String, data: [UInt8] = []) -> [UInt8] {
    let text = Array(header.utf8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian, Array.init) + text + data
}

@Suite struct SafetensorsTests {
    /// Accepts and refuses what the real package does, and finds the same tensors.
    @Test func agreesWithTheReferenceReader() throws {
        let cases = try GoldenFiles.cases("safetensors-cases.json")
        #expect(cases.count > 500)
        for expected in cases {
            let name = try #require(expected["name"]?.string)
            let bytes = try #require(expected["file"]).hex
            guard let tensors = expected["tensors"]?.array else {
                #expect(throws: FormatError.self, "\(name) is refused") {
                    try Safetensors.read(MemoryBytes(bytes, path: name))
                }
                continue
            }
            let file: TensorFile
            do {
                file = try Safetensors.read(MemoryBytes(bytes, path: name))
            } catch {
                Issue.record("\(name) is accepted by the reference: \(error)")
                continue
            }
            #expect(brokenInvariants(file) == [], "\(name)")
            #expect(file.tensors.count == tensors.count, "\(name)")
            for (tensor, wanted) in zip(file.tensors, tensors) {
                #expect(ExactName(tensor.name) == ExactName(wanted["name"]?.string ?? "?"), "\(name)")
                #expect(tensor.dtype.name == wanted["dtype"]?.string, "\(name)")
                #expect(tensor.shape == wanted["shape"]?.unsignedArray, "\(name)")
                #expect(contiguousBytes(of: tensor, in: file, bytes) == wanted["data"]?.hex, "\(name)")
            }
        }
    }

    @Test func storagesFollowTheData() throws {
        let bytes = safetensors(
            """
            {"b":{"dtype":"F16","shape":[2,1],"data_offsets":[1,5]},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]},
            "z":{"dtype":"F32","shape":[0,7],"data_offsets":[5,5]}}
            """, data: [1, 2, 3, 4, 5])
        let file = try Safetensors.read(MemoryBytes(bytes, path: "x"))
        let start = UInt64(bytes.count - 5)
        #expect(
            file.storages == [
                .init(offset: start, length: 1, dtype: .u8, shape: []),
                .init(offset: start + 1, length: 4, dtype: .f16, shape: [2, 1]),
                .init(offset: start + 5, length: 0, dtype: .f32, shape: [0, 7]),
            ])
        #expect(file.tensors.map(\.name) == ["a", "b", "z"])
        #expect(file.size == UInt64(bytes.count))
    }

    /// A file cut anywhere is truncated, and the error says how much is missing.
    @Test func cutAtEveryByte() throws {
        let whole = safetensors(
            #"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}}"#,
            data: Array(0..<11))
        #expect(try Safetensors.read(MemoryBytes(whole, path: "x")).tensors.count == 2)
        for length in 0..<whole.count {
            let error = #expect(throws: FormatError.self) {
                try Safetensors.read(MemoryBytes(Array(whole[..<length]), path: "x"))
            }
            #expect(error?.code == .truncated)
            let missing =
                length < 8 ? 8 - length : (length < whole.count - 11 ? whole.count - 11 : whole.count) - length
            #expect(error?.reason.contains("\(missing) bytes") == true, "\(length): \(error?.reason ?? "")")
        }
    }

    @Test(arguments: [
        (#"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, "w", 8 + 5),
        (#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, "w", 8 + 5),
        (#"{"w":{"dtype":"F33","shape":[2],"data_offsets":[4,12]}}"#, "w", 8 + 19),
    ])
    func errorsNameTensorAndByte(header: String, tensor: String, byte: UInt64) throws {
        let error = #expect(throws: FormatError.self) {
            try Safetensors.read(MemoryBytes(safetensors(header, data: Array(0..<8)), path: "x"))
        }
        #expect(error?.code == .malformed)
        #expect(error?.tensor == tensor)
        #expect(error?.byte == byte)
        #expect(error?.description.contains("\n") == false)
    }

    @Test func headerOverTheLimit() throws {
        let bytes =
            withUnsafeBytes(of: UInt64(100_000_001).littleEndian, Array.init) + [UInt8](repeating: 0x20, count: 8)
        #expect(throws: FormatError.self) { try Safetensors.read(MemoryBytes(bytes, path: "x")) }
    }

    /// Two megabytes of header, each a shape that costs an unwary parser memory or quadratic time.
    @Test(arguments: [
        "{" + String(repeating: "[", count: 2_000_000),
        #"{"a":{"x":["# + String(repeating: "[],", count: 600_000) + "0]}}",
        "{" + String(repeating: #""a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"#, count: 40_000) + #""b":0}"#,
        #"{"a":{"dtype":"F32","shape":["# + String(repeating: "1,", count: 1_000_000) + #"0],"data_offsets":[0,0]}}"#,
        #"{"a":{"x":"# + String(repeating: "9", count: 2_000_000) + "}}",
        #"{"a":{"x":""# + String(repeating: #"\u00e9"#, count: 300_000) + #""}}"#,
    ])
    func hostileHeadersCostLittle(header: String) throws {
        let bytes = safetensors(header)
        let took = ContinuousClock().measure { _ = try? Safetensors.read(MemoryBytes(bytes, path: "x")) }
        // Under a second unoptimised on a slow machine; a quadratic reader takes hours.
        #expect(took < .seconds(20))
    }
}
