public import Foundation

/// Writing and comparing directories of small files.
public enum FileTree {
    /// Writes `bytes` to `path`, making the directories above it.
    public static func write(_ bytes: [UInt8], to path: String) throws {
        let url = URL(filePath: path)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: url)
    }

    public static func write(_ text: String, to path: String) throws { try write(Array(text.utf8), to: path) }

    public static func makeDirectory(_ path: String) throws {
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    public static func bytes(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path))) }

    /// Every file below `directory` by its relative path; empty directories as `path/` with no bytes.
    public static func contents(of directory: String) throws -> [String: Data] {
        var found: [String: Data] = [:]
        try collect(directory, "", &found)
        return found
    }

    private static func collect(_ directory: String, _ prefix: String, _ found: inout [String: Data]) throws {
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        if names.isEmpty, !prefix.isEmpty { found[prefix] = Data() }
        for name in names {
            let path = directory + "/" + name
            var isDirectory: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
            if isDirectory.boolValue {
                try collect(path, prefix + name + "/", &found)
            } else {
                found[prefix + name] = try Data(contentsOf: URL(filePath: path))
            }
        }
    }

    /// Names that differ between two directories, or whose bytes do. Empty when both are the same.
    public static func differences(_ a: [String: Data], _ b: [String: Data]) -> [String] {
        Set(a.keys).union(b.keys).filter { a[$0] != b[$0] }.sorted()
    }
}

/// Checkpoints as the Hugging Face Trainer lays them out.
public enum FakeTrainer {
    /// Writes `checkpoint-<step>` below `output`; returns its path.
    @discardableResult
    public static func write(
        step: Int, seed: UInt64, to output: String, layers: Int = 2, rows: Int = 64, columns: Int = 48,
        optimizer: Bool = true
    ) throws -> String {
        let directory = "\(output)/checkpoint-\(step)"
        let model = SafetensorsFixture.model(seed: seed, layers: layers, rows: rows, columns: columns)
        try FileTree.write(model.bytes, to: directory + "/model.safetensors")
        try FileTree.write("{\"hidden_size\": \(columns)}\n", to: directory + "/config.json")
        if optimizer {
            var source = SeededBytes(seed &+ 1000)
            // Not a zip: kept as it is.
            try FileTree.write([0x80, 2] + source.bytes(3000), to: directory + "/optimizer.pt")
            try FileTree.write([0x80, 2] + source.bytes(300), to: directory + "/scheduler.pt")
        }
        try FileTree.write("{\"global_step\": \(step), \"log_history\": []}\n", to: directory + "/trainer_state.json")
        return directory
    }
}
