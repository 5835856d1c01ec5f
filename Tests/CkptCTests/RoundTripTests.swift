import CkptABI
import Foundation
import TensorFormats
import TestSupport
import Testing

/// What goes in comes out: by map, by read, as documents, on one thread and on many.
@Suite struct RoundTripTests {
    private func read(_ snapshot: OpaquePointer?, _ index: Int, offset: UInt64 = 0, count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let status = bytes.withUnsafeMutableBytes { room in
            var read = ckpt_read(index: index, offset: offset, buffer: room.baseAddress, count: UInt64(count))
            return ckpt_snapshot_read(snapshot, &read, 1, nil, nil)
        }
        #expect(status == CKPT_OK, "\(CFixture.message)")
        return bytes
    }

    @Test(arguments: ["image", "packed"]) func tensors(_ ref: String) throws {
        let fixture = try CFixture()
        var snapshot: OpaquePointer?
        #expect(ckpt_snapshot_open(fixture.store, ref, &snapshot) == CKPT_OK)
        defer { ckpt_snapshot_close(snapshot) }
        var count = 0
        #expect(ckpt_snapshot_tensor_count(snapshot, &count) == CKPT_OK)
        let expected = (ref == "image" ? CFixture.model : CFixture.packed).tensors
        #expect(count == expected.count)
        for tensor in expected {
            var (index, lent) = (0, ckpt_tensor())
            #expect(ckpt_snapshot_find(snapshot, tensor.name, &index) == CKPT_OK)
            var again = -1
            #expect(ckpt_snapshot_find(snapshot, "model.safetensors:" + tensor.name, &again) == CKPT_OK)
            #expect(again == index)
            lent.struct_size = MemoryLayout<ckpt_tensor>.size
            #expect(ckpt_snapshot_tensor(snapshot, index, &lent) == CKPT_OK)
            #expect(String(cString: lent.name) == tensor.name)
            #expect(String(cString: lent.file) == "model.safetensors")
            #expect(String(cString: lent.part) == "weights")
            #expect(String(cString: lent.dtype) == tensor.dtype.name)
            #expect(Int(lent.bits) == tensor.dtype.bits && Int(lent.byte_count) == tensor.bytes.count && lent.strides == nil)
            #expect(Array(UnsafeBufferPointer(start: lent.shape, count: Int(lent.rank))) == tensor.shape)
            #expect(read(snapshot, index, count: tensor.bytes.count) == tensor.bytes)
            #expect(read(snapshot, index, offset: 7, count: 100) == Array(tensor.bytes[7..<107]))
            var (view, bytes, extent): (OpaquePointer?, UnsafeRawPointer?, Int) = (nil, nil, 0)
            let status = ckpt_snapshot_map(snapshot, index, &view, &bytes, &extent)
            guard ref == "image" else {
                #expect(status == CKPT_CONFLICT && String(cString: ckpt_error_hint()).contains("ckpt_store_path"))
                continue
            }
            #expect(status == CKPT_OK)
            #expect(Array(UnsafeRawBufferPointer(start: bytes, count: extent)) == tensor.bytes)
            #expect(ckpt_view_close(view) == CKPT_OK)
        }
        var id = [CChar](repeating: 1, count: 65)
        #expect(ckpt_snapshot_id(snapshot, &id) == CKPT_OK)
        #expect(strlen(id) == 64 && id[64] == 0)
        let described = try #require(try CFixture.document { ckpt_snapshot_describe(snapshot, $0) } as? [String: Any])
        #expect(described["id"] as? String == id.withUnsafeBufferPointer { String(cString: $0.baseAddress!) })
        #expect((described["image"] is NSNull) == (ref == "packed"))
    }

    /// A view outlives its snapshot, its store and its image.
    @Test func viewsOutliveWhatTheyAreOf() throws {
        let fixture = try CFixture()
        var (store, snapshot, view): (OpaquePointer?, OpaquePointer?, OpaquePointer?)
        var (bytes, extent): (UnsafeRawPointer?, Int) = (nil, 0)
        #expect(ckpt_store_open(fixture.path, 5, &store) == CKPT_OK)
        #expect(ckpt_snapshot_open(store, "image", &snapshot) == CKPT_OK)
        var index = 0
        #expect(ckpt_snapshot_find(snapshot, "layers.0.weight", &index) == CKPT_OK)
        #expect(ckpt_snapshot_map(snapshot, index, &view, &bytes, &extent) == CKPT_OK)
        #expect(ckpt_store_close(store) == CKPT_OK)
        #expect(read(snapshot, index, count: 16) == Array(CFixture.model.tensors[0].bytes.prefix(16)))
        #expect(ckpt_snapshot_close(snapshot) == CKPT_OK)
        #expect(ckpt_store_remove(fixture.store, "image") == CKPT_OK)
        #expect(Array(UnsafeRawBufferPointer(start: bytes, count: extent)) == CFixture.model.tensors[0].bytes)
        #expect(ckpt_view_close(view) == CKPT_OK)
    }

    @Test func metadataFilesMetricsAndTags() throws {
        let fixture = try CFixture()
        let store = fixture.store
        var model = CFixture.model
        model.metadata = [("format", "pt"), ("note", "\u{e9}")]
        let notes = Array("{\"a\": 1}".utf8)
        let status = model.bytes.withUnsafeBytes { bytes in
            notes.withUnsafeBytes { notes in
                "model.safetensors".withCString { name in
                    "sub/notes.json".withCString { other in
                        var pieces = [ckpt_piece(bytes: bytes.baseAddress, count: UInt64(bytes.count)), ckpt_piece(bytes: notes.baseAddress, count: 8)]
                        return pieces.withUnsafeMutableBufferPointer { pieces in
                            let files = [
                                ckpt_file(path: name, location: nil, pieces: pieces.baseAddress, piece_count: 1),
                                ckpt_file(path: other, location: nil, pieces: pieces.baseAddress! + 1, piece_count: 1),
                            ]
                            var json: UnsafeMutablePointer<CChar>?
                            defer { ckpt_free(json) }
                            return ckpt_ingest_files(store, "m", 5, files, 2, nil, 0, 0, nil, nil, nil, &json)
                        }
                    }
                }
            }
        }
        #expect(status == CKPT_OK, "\(CFixture.message)")
        var snapshot: OpaquePointer?
        #expect(ckpt_snapshot_open(store, "m", &snapshot) == CKPT_OK)
        let metadata = try CFixture.document { ckpt_snapshot_metadata(snapshot, $0) } as? [String: [String: String]]
        #expect(metadata == ["model.safetensors": ["format": "pt", "note": "\u{e9}"]])
        #expect(ckpt_snapshot_close(snapshot) == CKPT_OK)
        var (bytes, count): (UnsafeMutablePointer<UInt8>?, Int) = (nil, 0)
        #expect(ckpt_store_file(store, "m", "sub/notes.json", &bytes, &count) == CKPT_OK)
        #expect(Array(UnsafeBufferPointer(start: bytes, count: count)) == notes)
        ckpt_free(bytes)
        expectRefusal(CKPT_NO_SUCH_REF) { ckpt_store_file(store, "m", "none", &$0.bytes, &$0.count) }
        expectRefusal(CKPT_BAD_INPUT) { ckpt_store_file(store, "m", "model.safetensors", &$0.bytes, &$0.count) }
        #expect(ckpt_store_set_metric(store, "m", "loss", 0.25) == CKPT_OK)
        #expect(try CFixture.document { ckpt_store_metrics(store, "m", $0) } as? [String: Double] == ["loss": 0.25])
        #expect(ckpt_store_tag(store, "m", "best") == CKPT_OK)
        expectRefusal(CKPT_CONFLICT) { _ in ckpt_store_remove(store, "m") }
        #expect(ckpt_store_untag(store, "best") == CKPT_OK)
        #expect(ckpt_store_pin(store, "packed") == CKPT_OK && ckpt_store_unpin(store, "packed") == CKPT_OK)
        let out = fixture.directory.path + "/out"
        #expect(ckpt_store_export(store, "m", out, nil, nil) == CKPT_OK)
        #expect(try FileTree.contents(of: out) == ["model.safetensors": Data(model.bytes), "sub/notes.json": Data(notes)])
        expectRefusal(CKPT_CONFLICT) { _ in ckpt_store_export(store, "m", out, nil, nil) }
        let image = try CFixture.text { ckpt_store_path(store, "m", $0) }
        #expect(try FileTree.contents(of: image).count == 2)
        #expect(ckpt_store_remove(store, "m") == CKPT_OK)
        try fixture.expectWhole()
    }

    @Test func piecesAreJoined() throws {
        let fixture = try CFixture()
        let store = fixture.store
        for rank in 1...2 {
            let name = "model-0000\(rank)-of-00002.safetensors"
            let joins = rank == 2 ? ["rank-1@5"] : []
            let made = CFixture.ingest(
                store, SafetensorsFixture.model(seed: UInt64(rank)).bytes, run: rank == 2 ? "whole" : "rank-1", step: 5, isPiece: rank == 1, as: name, joins: joins)
            #expect(made.status == CKPT_OK, "\(CFixture.message)")
        }
        let history = try #require(try CFixture.document { ckpt_store_history(store, nil, $0) } as? [[String: Any]])
        #expect(Set(history.compactMap { $0["ref"] as? String }) == ["r@0", "r@1", "image@0", "packed@0", "whole@5"])
        expectRefusal(CKPT_NO_SUCH_REF) { ckpt_store_metrics(store, "rank-1@5", &$0.json) }
        try fixture.expectWhole()
    }

    @Test func diffs() throws {
        let fixture = try CFixture()
        for by in [CKPT_BY_TENSOR, CKPT_BY_LAYER, CKPT_BY_KIND] {
            var options = ckpt_diff_options()
            (options.struct_size, options.by) = (MemoryLayout<ckpt_diff_options>.size, Int32(by))
            let diff = try #require(
                try CFixture.document { ckpt_diff(fixture.store, "r@0", fixture.store, "r@1", &options, nil, nil, $0) } as? [String: Any])
            #expect(diff["different"] as? Bool == true && (diff["rows"] as? [Any])?.isEmpty == false)
        }
        let path = fixture.directory.path + "/model.safetensors"
        try FileTree.write(CFixture.model.bytes, to: path)
        let same = try #require(try CFixture.document { ckpt_diff(nil, path, fixture.store, "r@0", nil, nil, nil, $0) } as? [String: Any])
        #expect(same["different"] as? Bool == false)
    }

    @Test func probesAndOutputs() throws {
        let fixture = try CFixture()
        let store = fixture.store
        let samples = try #require(try CFixture.document { ckpt_probe_samples(store, "p", $0) } as? [[String: Any]])
        #expect(samples.count == 1 && samples[0]["input_ids"] as? [Int] == [1, 15, 16, 2])
        let (places, starts): ([UInt64], [UInt64]) = ([0], [0, 3])
        let (entropy, top1): ([Float], [UInt32]) = ([1.5, 0, 0.25], [7, 8, 9])
        let settings = "{\"precision\":\"f32\"}"
        let put = places.withUnsafeBufferPointer { places in
            starts.withUnsafeBufferPointer { starts in
                entropy.withUnsafeBufferPointer { entropy in
                    top1.withUnsafeBufferPointer { top1 in
                        var outputs = ckpt_outputs()
                        (outputs.struct_size, outputs.sample_count, outputs.token_count) = (MemoryLayout<ckpt_outputs>.size, 1, 3)
                        (outputs.samples, outputs.starts) = (places.baseAddress, starts.baseAddress)
                        (outputs.entropy, outputs.nll, outputs.top1) = (entropy.baseAddress, entropy.baseAddress, top1.baseAddress)
                        return ckpt_entropies_put(store, "r@0", "p", settings, "{\"by\":\"test\"}", &outputs, nil)
                    }
                }
            }
        }
        #expect(put == CKPT_OK, "\(CFixture.message)")
        var outputs = ckpt_outputs()
        outputs.struct_size = MemoryLayout<ckpt_outputs>.size
        #expect(ckpt_entropies_get(store, "r@0", "p", settings, &outputs) == CKPT_OK, "\(CFixture.message)")
        #expect(outputs.sample_count == 1 && outputs.token_count == 3 && outputs.hasNoOthers)
        #expect(Array(UnsafeBufferPointer(start: outputs.entropy, count: 3)) == entropy)
        #expect(Array(UnsafeBufferPointer(start: outputs.nll, count: 3)) == entropy)
        #expect(Array(UnsafeBufferPointer(start: outputs.top1, count: 3)) == top1)
        #expect(Array(UnsafeBufferPointer(start: outputs.starts, count: 2)) == starts)
        ckpt_outputs_free(&outputs)
        #expect(outputs.entropy == nil && outputs.sample_count == 0)
        ckpt_outputs_free(&outputs)
        expectRefusal(CKPT_NO_SUCH_REF) { ckpt_entropies_get(store, "r@0", "p", "{\"precision\":\"bf16\"}", &$0.outputs) }
        #expect((try CFixture.document { ckpt_entropies_list(store, "r@0", "p", $0) } as? [Any])?.count == 1)
        #expect((try CFixture.document { ckpt_entropies_list(store, "r@1", nil, $0) } as? [Any])?.count == 0)
        #expect(ckpt_probe_remove(store, "p") == CKPT_OK)
        #expect((try CFixture.document { ckpt_probe_list(store, $0) } as? [Any])?.count == 0)
        try fixture.expectWhole()
    }

    @Test func messagesAreOfOneThread() throws {
        var outs = Outs()
        #expect(ckpt_store_open("/nowhere/one", 0, &outs.handle) == CKPT_NO_STORE)
        let seen = SeenText()
        let thread = Thread {
            let before = CFixture.message
            var outs = Outs()
            _ = ckpt_store_open("/nowhere/two", 0, &outs.handle)
            seen.set(before + "|" + CFixture.message)
        }
        thread.start()
        while !thread.isFinished { usleep(1000) }
        #expect(seen.text.hasPrefix("|/nowhere/two"), "\(seen.text)")
        #expect(CFixture.message.hasPrefix("/nowhere/one"))
    }

    /// Eight threads on the same handles, and one that opens, closes and ingests.
    @Test func manyThreads() throws {
        let fixture = try CFixture()
        let (store, snapshot) = (UInt(bitPattern: fixture.store), UInt(bitPattern: fixture.snapshot))
        let expected = SafetensorsFixture.model(seed: 2).tensors[0]
        let packed = CFixture.packed.tensors[0]
        let failures = SeenText()
        let threads = (0..<8).map { number in
            Thread {
                let (store, shared) = (OpaquePointer(bitPattern: store), OpaquePointer(bitPattern: snapshot))
                func check(_ holds: Bool, _ line: Int = #line) { if !holds { failures.set("\(line): \(CFixture.message)") } }
                func bytes(_ snapshot: OpaquePointer?, _ name: String) -> [UInt8] {
                    var index = 0
                    check(ckpt_snapshot_find(snapshot, name, &index) == CKPT_OK)
                    var bytes = [UInt8](repeating: 0, count: 64 * 48 * 2)
                    let status = bytes.withUnsafeMutableBytes { room in
                        var read = ckpt_read(index: index, offset: 0, buffer: room.baseAddress, count: UInt64(room.count))
                        return ckpt_snapshot_read(snapshot, &read, 1, nil, nil)
                    }
                    check(status == CKPT_OK)
                    return bytes
                }
                for round in 0..<25 {
                    var (own, view, place, count): (OpaquePointer?, OpaquePointer?, UnsafeRawPointer?, Int) = (nil, nil, nil, 0)
                    check(bytes(shared, expected.name) == expected.bytes)
                    check(ckpt_snapshot_open(store, "packed", &own) == CKPT_OK)
                    check(bytes(own, packed.name) == packed.bytes)
                    check(ckpt_snapshot_close(own) == CKPT_OK)
                    var index = 0
                    check(ckpt_snapshot_find(shared, expected.name, &index) == CKPT_OK)
                    check(ckpt_snapshot_map(shared, index, &view, &place, &count) == CKPT_OK)
                    check(Array(UnsafeRawBufferPointer(start: place, count: count)) == expected.bytes)
                    check(ckpt_view_close(view) == CKPT_OK)
                    check(ckpt_view_close(view) == CKPT_BAD_HANDLE)
                    if number == 0, round % 5 == 0 {
                        check(CFixture.ingest(store, SafetensorsFixture.model(seed: UInt64(round)).bytes, run: "t", step: UInt64(round)).status == CKPT_OK)
                    }
                }
            }
        }
        for thread in threads { thread.start() }
        while threads.contains(where: { !$0.isFinished }) { usleep(2000) }
        #expect(failures.text == "")
        try fixture.expectWhole()
    }
}

/// A text that one thread leaves for another.
private final class SeenText: @unchecked Sendable {
    private let lock = NSLock()
    private var kept = ""
    var text: String { lock.withLock { kept } }
    func set(_ text: String) { lock.withLock { kept = text } }
}

extension ckpt_outputs {
    /// Whether the columns that were not given are not there.
    fileprivate var hasNoOthers: Bool { ln_c == nil && kl_strong_weak == nil && kl_weak_strong == nil && hard_negatives == nil }
}
