/// `model.safetensors.index.json` or `pytorch_model.bin.index.json`: which file of a model holds which tensor.
public struct ShardIndex: Sendable {
    /// Tensor and file names in the byte order of the tensors' names, each tensor once.
    public let weightMap: [(tensor: String, file: String)]
    /// The files named, in byte order, each once.
    public let files: [String]

    /// Parses the bytes of an index.
    ///
    /// - Parameter path: the index file, as errors name it.
    /// - Throws: `.malformed` when it is not JSON or has no `weight_map` of strings, `.unsafeName` when a file name
    ///   is absolute, empty, or holds `..`, a NUL or a backslash, `.limit` when it has too many values.
    /// - Complexity: O(n log n) in the bytes.
    public init(parsing bytes: [UInt8], path: String) throws(FormatError) {
        guard let members = try JSONValue.parse(bytes, path: path)["weight_map"]?.members else {
            throw FormatError(
                .malformed, path: path, "no \"weight_map\" object", hint: "this is not an index of shards")
        }
        var fileOf: [ExactName: String] = [:]
        var names: Set<ExactName> = []
        for member in members {
            guard let file = member.value.string else {
                throw FormatError(
                    .malformed, path: path, tensor: SafePath.printable(member.key),
                    "its file in \"weight_map\" is not a string")
            }
            if names.insert(ExactName(file)).inserted {
                try ShardIndex.check(file, path: path)
            }
            fileOf[ExactName(member.key)] = file
        }
        weightMap = fileOf.sorted { $0.key < $1.key }.map { (tensor: $0.key.string, file: $0.value) }
        files = Set(fileOf.values.map(ExactName.init)).sorted().map(\.string)
    }

    private static func check(_ file: String, path: String) throws(FormatError) {
        try SafePath.check(file, in: path)
        // A separator on other systems, where such a name would leave the directory.
        guard !file.utf8.contains(UInt8(ascii: "\\")) else {
            throw FormatError(
                .unsafeName, path: path, "the file name \"\(SafePath.printable(file))\" holds a backslash")
        }
    }
}
