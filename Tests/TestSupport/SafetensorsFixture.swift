public import TensorFormats

/// A small safetensors file, built byte by byte, the unusual ones too.
public struct SafetensorsFixture: Sendable {
    public struct Tensor: Sendable {
        public var name: String
        public var dtype: DType
        public var shape: [UInt64]
        public var bytes: [UInt8]
        /// Further members of its entry, as JSON: `"note":1`.
        public var extra: String?

        public init(_ name: String, _ dtype: DType, _ shape: [UInt64], _ bytes: [UInt8], extra: String? = nil) {
            self.name = name
            self.dtype = dtype
            self.shape = shape
            self.bytes = bytes
            self.extra = extra
        }
    }

    public var tensors: [Tensor]
    public var metadata: [(key: String, value: String)]
    /// Spaces before and behind the JSON, inside the header.
    public var spacesBefore = 0
    public var spacesBehind = 0

    public init(_ tensors: [Tensor], metadata: [(key: String, value: String)] = []) {
        self.tensors = tensors
        self.metadata = metadata
    }

    public var bytes: [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.map { "\"\($0.key)\":\"\($0.value)\"" }
            members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        var offset = 0
        for tensor in tensors {
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            let extra = tensor.extra.map { "," + $0 } ?? ""
            members.append(
                "\"\(tensor.name)\":{\"dtype\":\"\(tensor.dtype.name)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(offset),\(offset + tensor.bytes.count)]\(extra)}")
            offset += tensor.bytes.count
        }
        let space = { (count: Int) in [UInt8](repeating: 0x20, count: count) }
        let header = space(spacesBefore) + Array("{\(members.joined(separator: ","))}".utf8) + space(spacesBehind)
        var bytes = withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) }
        bytes += header
        bytes.reserveCapacity(bytes.count + offset)
        for tensor in tensors { bytes += tensor.bytes }
        return bytes
    }

    /// A model of `layers` bf16 matrices with their norms, all from `seed`; about `2 x layers x rows x columns` bytes.
    public static func model(seed: UInt64, layers: Int = 4, rows: Int = 64, columns: Int = 48) -> SafetensorsFixture {
        var source = SeededBytes(seed)
        return SafetensorsFixture(
            (0..<layers).flatMap { layer in
                [
                    Tensor(
                        "layers.\(layer).weight", .bf16, [UInt64(rows), UInt64(columns)],
                        source.bfloat16(count: rows * columns)),
                    Tensor("layers.\(layer).norm", .f32, [UInt64(columns)], source.bytes(columns * 4)),
                ]
            })
    }
}

/// Bytes that a seed decides (SplitMix64).
public struct SeededBytes: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }

    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Bytes that nothing compresses.
    public mutating func bytes(_ count: Int) -> [UInt8] {
        words((count + 7) / 8) { $0 }.dropLast((8 - count % 8) % 8)
    }

    /// Numbers as weights have them: signs and mantissas at random, exponents around that of 0.02.
    public mutating func bfloat16(count: Int) -> [UInt8] {
        words((count + 3) / 4) { word in
            // Four numbers a word: sign and seven mantissa bits kept, the exponent one of eight.
            word & 0x83FF_83FF_83FF_83FF | 0x3800_3800_3800_3800
        }.dropLast((4 - count % 4) % 4 * 2)
    }

    private mutating func words(_ count: Int, _ shape: (UInt64) -> UInt64) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: count * 8) { buffer, initialized in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for index in 0..<count { raw.storeBytes(of: shape(next()), toByteOffset: index * 8, as: UInt64.self) }
            initialized = count * 8
        }
    }
}
