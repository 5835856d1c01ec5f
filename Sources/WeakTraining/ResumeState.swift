internal import CheckpointStore
internal import LanguageModel
internal import TensorFormats

/// What training needs to go on as if it had never stopped: weights in single precision and moments of the models that are
/// trained, and how far it is. A safetensors file; its metadata ends with a checksum over the rest.
struct ResumeState {
    /// The settings of the training, as JSON.
    var settings: String
    /// How far it is, as JSON.
    var progress: String
    /// Of which the kernels were: sums of others differ in their last bits.
    var kernels: String

    private static let format = "ckpt-training-1"

    /// A trained model by its name in the file.
    typealias Branch = (name: String, model: TrainedModel, moments: AdamW.Moments)

    /// Writes the state under another name, and then in the place of the one that is there.
    func write(_ branches: [Branch], to path: String, _ team: ThreadTeam) throws(StoreError) {
        var tensors: [SafetensorsFile.Tensor] = []
        for branch in branches {
            let count = branch.moments.count
            for (what, values) in [
                ("weights", branch.model.parameters.values), ("first", branch.moments.first), ("second", branch.moments.second),
            ] {
                tensors.append(
                    .init(
                        name: "\(branch.name).\(what)", dtype: .f32, shape: [count],
                        values: UnsafeBufferPointer(start: values, count: count)))
            }
        }
        var metadata = [("format", ResumeState.format), ("kernels", kernels), ("settings", settings), ("progress", progress)]
        // In the order in which they are read.
        tensors.sort { $0.name < $1.name }
        metadata.append(("checksum", ResumeState.checksum(metadata.map(\.1), tensors.map { UnsafeRawBufferPointer($0.values) }, team)))
        try SafetensorsFile.write(tensors, metadata: metadata, to: path)
    }

    /// - Throws: `.damaged` for a file that is not whole.
    static func read(_ path: String) throws(StoreError) -> (state: ResumeState, tensors: Tensors) {
        let tensors = try Tensors(path)
        func text(_ key: String) throws(StoreError) -> String {
            guard let text = tensors.metadata[key] else { throw tensors.damaged("no \(key)") }
            return text
        }
        guard try text("format") == format else {
            throw StoreError(.incompatible, "\(path): written as \(try text("format")), and this program writes \(format)")
        }
        return (
            ResumeState(settings: try text("settings"), progress: try text("progress"), kernels: try text("kernels")), tensors
        )
    }

    /// SHA-256 over the hashes of the texts and of pieces of the tensors.
    private static func checksum(_ texts: [String], _ tensors: [UnsafeRawBufferPointer], _ team: ThreadTeam) -> String {
        let pieceBytes = 4 << 20
        let pieces = tensors.flatMap { bytes in
            stride(from: 0, to: bytes.count, by: pieceBytes).map {
                UnsafeRawBufferPointer(rebasing: bytes[$0..<min($0 + pieceBytes, bytes.count)])
            }
        }
        var hashes = [ContentID](repeating: ContentID.hash(of: []), count: pieces.count)
        hashes.withUnsafeMutableBufferPointer { hashes in
            // Each is written by one thread.
            nonisolated(unsafe) let (hashes, pieces) = (hashes, pieces)
            team.forEach(pieces.count) { index, _ in hashes[index] = ContentID.hash(of: pieces[index]) }
        }
        let all = texts.map { "\(ContentID.hash(of: Array($0.utf8)))" } + hashes.map { "\($0)" }
        return "\(ContentID.hash(of: Array(all.joined(separator: "\n").utf8)))"
    }

    /// The tensors of a state, mapped.
    struct Tensors {
        let path: String
        let metadata: [String: String]
        private let map: MappedFile
        private let file: TensorFile

        init(_ path: String) throws(StoreError) {
            self.path = path
            map = try MappedFile(path)
            do throws(FormatError) {
                (file, metadata) = try ResumeState.parse(map, path)
            } catch {
                // It names the path and the byte.
                throw StoreError(.damaged, "\(error)", hint: Tensors.hint)
            }
        }

        private static let hint = "another --run begins anew"

        func damaged(_ what: String) -> StoreError {
            StoreError(.damaged, "\(path): \(what)", hint: Tensors.hint)
        }

        private func bytes(_ name: String, count: Int) throws(StoreError) -> UnsafeRawBufferPointer {
            guard let tensor = file.tensors.first(where: { $0.name == name }), tensor.dtype == .f32, tensor.shape == [UInt64(count)]
            else { throw damaged("no \(name) of \(count) numbers") }
            let start = Int(file.storages[tensor.storage].offset + tensor.offset)
            guard start + 4 * count <= map.bytes.count else { throw damaged("it ends inside \(name)") }
            return UnsafeRawBufferPointer(rebasing: map.bytes[start..<start + 4 * count])
        }

        /// Fills weights and moments of `branches`, which may be fewer than the file has, once all of it has proved whole.
        func restore(_ branches: [Branch], _ team: ThreadTeam) throws(StoreError) {
            var all: [UnsafeRawBufferPointer] = []
            for branch in branches {
                for what in ["weights", "first", "second"] {
                    all.append(try bytes("\(branch.name).\(what)", count: branch.moments.count))
                }
            }
            let texts = ["format", "kernels", "settings", "progress"].map { metadata[$0] ?? "" }
            let whole = try file.tensors.sorted { $0.name < $1.name }.map { tensor throws(StoreError) in
                try bytes(tensor.name, count: Int(exactly: tensor.shape.first ?? 0) ?? 0)
            }
            guard ResumeState.checksum(texts, whole, team) == metadata["checksum"] else { throw damaged("its checksum does not fit") }
            for (index, branch) in branches.enumerated() {
                for (offset, target) in [branch.model.parameters.values, branch.moments.first, branch.moments.second].enumerated() {
                    let from = all[3 * index + offset]
                    UnsafeMutableRawPointer(target).copyMemory(from: from.baseAddress!, byteCount: from.count)
                }
            }
        }
    }

    private static func parse(_ map: MappedFile, _ path: String) throws(FormatError) -> (TensorFile, [String: String]) {
        // Has seen that the header is as long as it says.
        let file = try Safetensors.read(FileBytes(path: path))
        let length = Int(map.bytes.loadUnaligned(as: UInt64.self).littleEndian)
        let header = try JSONValue.parse(Array(map.bytes[8..<8 + length]), path: path)
        var metadata: [String: String] = [:]
        for member in header["__metadata__"]?.members ?? [] { metadata[member.key] = member.value.string }
        return (file, metadata)
    }
}
