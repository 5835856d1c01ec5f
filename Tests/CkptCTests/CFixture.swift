import CkptABI
import Foundation
import TestSupport
import Testing

/// A store that is made and used through the C interface alone: `r@0` and `r@1` of a small model, `image@0` with an image, `packed@0` without, and
/// the probe `p`.
final class CFixture {
    let directory: TemporaryDirectory
    let path: String
    let store: OpaquePointer
    /// Of `r@1`.
    let snapshot: OpaquePointer
    /// What is in `r@0` and `image`, and in `packed`.
    static let model = SafetensorsFixture.model(seed: 1)
    static let packed = SafetensorsFixture.model(seed: 3)

    init() throws {
        directory = try TemporaryDirectory()
        path = directory.path + "/store"
        #expect(ckpt_store_create(path) == CKPT_OK)
        var opened: OpaquePointer?
        #expect(ckpt_store_open(path, 30, &opened) == CKPT_OK)
        store = try #require(opened)
        for (run, step, isPacked) in [("packed", 0, true), ("r", 0, false), ("r", 1, false), ("image", 0, false)] {
            let bytes = isPacked ? CFixture.packed.bytes : step == 0 ? CFixture.model.bytes : SafetensorsFixture.model(seed: 2).bytes
            let status = CFixture.ingest(store, bytes, run: run, step: UInt64(step), without: isPacked).status
            #expect(status == CKPT_OK, "\(CFixture.message)")
        }
        var snapshot: OpaquePointer?
        #expect(ckpt_snapshot_open(store, "r@1", &snapshot) == CKPT_OK)
        self.snapshot = try #require(snapshot)
        let tokens: [Int32] = [1, 15, 16, 2]
        let ranges: [UInt32] = [1, 4]
        let status = "a".withCString { id in
            tokens.withUnsafeBufferPointer { tokens in
                ranges.withUnsafeBufferPointer { ranges in
                    var sample = ckpt_sample(id: id, tokens: tokens.baseAddress, token_count: 4, supervised: ranges.baseAddress, range_count: 1)
                    var json: UnsafeMutablePointer<CChar>?
                    defer { ckpt_free(json) }
                    return ckpt_probe_add(store, "p", &sample, 1, &json)
                }
            }
        }
        #expect(status == CKPT_OK, "\(CFixture.message)")
    }

    deinit {
        ckpt_snapshot_close(snapshot)
        ckpt_store_close(store)
    }

    /// What this thread was told last.
    static var message: String { String(cString: ckpt_error_message()) }

    /// The text that `call` gives.
    static func text(_ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> ckpt_status) throws -> String {
        var given: UnsafeMutablePointer<CChar>?
        let status = call(&given)
        try #require(status == CKPT_OK, "\(message)")
        defer { ckpt_free(given) }
        return String(cString: try #require(given))
    }

    /// The document that `call` gives.
    static func document(_ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> ckpt_status) throws -> Any {
        try JSONSerialization.jsonObject(with: Data(text(call).utf8), options: .fragmentsAllowed)
    }

    /// Takes `bytes` in as model.safetensors, in pieces of some lengths.
    static func ingest(
        _ store: OpaquePointer?, _ bytes: [UInt8], run: String, step: UInt64, without image: Bool = false, isPiece: Bool = false,
        as name: String = "model.safetensors", joins: [String] = [], change: (inout ckpt_ingest_options) -> Void = { _ in },
        progress: ckpt_progress? = nil
    ) -> (status: ckpt_status, json: String?) {
        var options = ckpt_ingest_options()
        options.struct_size = MemoryLayout<ckpt_ingest_options>.size
        options.without_image = image ? 1 : 0
        change(&options)
        var json: UnsafeMutablePointer<CChar>?
        let names = joins.map { UnsafePointer<CChar>(strdup($0)) }
        defer { for name in names { free(UnsafeMutableRawPointer(mutating: name)) } }
        let status = bytes.withUnsafeBytes { bytes in
            name.withCString { name in
                let cuts = [0, min(8, bytes.count), min(1000, bytes.count), bytes.count]
                let pieces = zip(cuts, cuts.dropFirst()).map { start, end in
                    ckpt_piece(bytes: bytes.baseAddress.map { UnsafeRawPointer($0 + start) }, count: UInt64(end - start))
                }
                return pieces.withUnsafeBufferPointer { pieces in
                    var file = ckpt_file(path: name, location: nil, pieces: pieces.baseAddress, piece_count: pieces.count)
                    return ckpt_ingest_files(store, run, step, &file, 1, names, names.count, isPiece ? 1 : 0, &options, progress, nil, &json)
                }
            }
        }
        defer { ckpt_free(json) }
        return (status, json.map { String(cString: $0) })
    }

    /// What must not change when a call is refused.
    func state() throws -> String {
        let history = try CFixture.text { ckpt_store_history(store, nil, $0) }
        let stats = try CFixture.document { ckpt_store_stats(store, $0) } as? [String: Any]
        let probes = try CFixture.text { ckpt_probe_list(store, $0) }
        let records = try CFixture.text { ckpt_entropies_list(store, nil, nil, $0) }
        let images = try FileManager.default.contentsOfDirectory(atPath: path + "/images").sorted()
        return "\(history) \(stats?["blocks"] ?? "") \(stats?["tensors"] ?? "") \(probes) \(records) \(images)"
    }

    func expectWhole(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let report = try CFixture.document { ckpt_store_verify(path, 0, nil, nil, $0) } as? [String: Any]
        #expect(report?["ok"] as? Bool == true, "\(report ?? [:])", sourceLocation: sourceLocation)
    }
}

/// Out-parameters of every kind, with values that no call gives.
struct Outs {
    static let mark = 0xDEA0
    var json = UnsafeMutablePointer<CChar>(bitPattern: mark)
    var handle = OpaquePointer(bitPattern: mark)
    var bytes = UnsafeMutablePointer<UInt8>(bitPattern: mark)
    var mapped = UnsafeRawPointer(bitPattern: mark)
    var count = mark
    var id = [CChar](repeating: 7, count: 65)
    var tensor = ckpt_tensor()
    var outputs = ckpt_outputs()

    init() {
        (tensor.struct_size, tensor.rank) = (MemoryLayout<ckpt_tensor>.size, 77)
        (outputs.struct_size, outputs.sample_count) = (MemoryLayout<ckpt_outputs>.size, 77)
    }

    var areUntouched: Bool {
        let values = [Int(bitPattern: json), Int(bitPattern: handle), Int(bitPattern: bytes), Int(bitPattern: mapped), count]
        return values.allSatisfy { $0 == Outs.mark } && id.allSatisfy { $0 == 7 } && tensor.rank == 77 && tensor.name == nil
            && outputs.sample_count == 77 && outputs.samples == nil
    }
}

/// Checks that `call` is refused as it should be: its status, one line that says why, and no out-parameter touched.
func expectRefusal(
    _ code: Int, _ what: String = "", sourceLocation: SourceLocation = #_sourceLocation, _ call: (inout Outs) -> ckpt_status
) {
    var outs = Outs()
    let status = call(&outs)
    let message = CFixture.message
    #expect(status == code, "\(what): \(message)", sourceLocation: sourceLocation)
    #expect(!message.isEmpty, "\(what)", sourceLocation: sourceLocation)
    for text in [message, String(cString: ckpt_error_hint())] {
        #expect(!text.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x7F }, "\(what): \(text)", sourceLocation: sourceLocation)
    }
    #expect(outs.areUntouched, "\(what): an out-parameter was touched", sourceLocation: sourceLocation)
}
