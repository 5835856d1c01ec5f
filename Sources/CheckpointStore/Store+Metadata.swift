internal import LMDB
internal import TensorFormats

extension Store {
    /// What the headers of the snapshot's safetensors files say under `__metadata__`, by file; files that say nothing are left out.
    ///
    /// - Throws: `.damaged`.
    /// - Complexity: O(bytes of the headers).
    package func safetensorsMetadata(of snapshot: Snapshot) throws(StoreError) -> [String: [String: String]] {
        try throwingStoreErrors {
            try reading(snapshot, named: "\(snapshot.id.short)") {
                let generation = openGeneration
                let reader = BlockReader(try generation.environment.beginRead(), generation.tables)
                var found: [String: [String: String]] = [:]
                for file in snapshot.files where file.format == .safetensors {
                    guard let skeleton = file.skeleton else { continue }
                    // All that is no tensor: the length of the header, and the header.
                    let count = file.size - file.storages.reduce(0) { $0 + $1.length }
                    let header = try Array(reader.bytes(of: skeleton, 0..<count).dropFirst(8))
                    let values = try JSONValue.parse(header, path: file.path)["__metadata__"]?.members ?? []
                    let texts = values.compactMap { member in member.value.string.map { (member.key, $0) } }
                    if !texts.isEmpty { found[file.path] = Dictionary(texts) { $1 } }
                }
                return found
            }
        }
    }
}
