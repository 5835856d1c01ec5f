import CkptABI
import Foundation
import TestSupport
import Testing

/// Numbers, sizes, documents and files that are not what they should be.
@Suite struct ValueTests {
    private let badArgument = CKPT_BAD_ARGUMENT
    private static let huge = [Int.max, -1, Int.min, Int.max / 2, Int.min + 1, Int.max / 8 + 1]

    @Test func numbers() throws {
        let fixture = try CFixture()
        let (store, snapshot, before) = (fixture.store, fixture.snapshot, try fixture.state())
        for timeout in [Double.nan, -1, -.infinity, .infinity, -0.001] {
            expectRefusal(badArgument, "\(timeout)") { ckpt_store_open(fixture.path, timeout, &$0.handle) }
        }
        for value in [Double.nan, .infinity, -.infinity] {
            expectRefusal(CKPT_BAD_INPUT, "\(value)") { _ in ckpt_store_set_metric(store, "r", "loss", value) }
        }
        var count = 0
        #expect(ckpt_snapshot_tensor_count(snapshot, &count) == CKPT_OK)
        for index in [count, Int.max, -1, Int.min] {
            expectRefusal(badArgument, "\(index)") { ckpt_snapshot_tensor(snapshot, index, &$0.tensor) }
            expectRefusal(badArgument, "\(index)") { ckpt_snapshot_map(snapshot, index, &$0.handle, &$0.mapped, &$0.count) }
        }
        var room = [UInt8](repeating: 9, count: 64)
        room.withUnsafeMutableBytes { room in
            let bytes = UInt64(64 * 48 * 2)
            for (index, offset, size) in [
                (count, 0, 8), (-1, 0, 8), (0, UInt64.max, 8), (0, UInt64.max - 3, 8), (0, 1 << 63, 1 << 63), (0, 0, UInt64.max), (0, 8, UInt64.max - 7),
                (0, bytes, 64), (0, bytes + 1, 0), (0, 0, 1 << 40),
            ] as [(Int, UInt64, UInt64)] {
                var read = ckpt_read(index: index, offset: offset, buffer: room.baseAddress, count: size)
                expectRefusal(badArgument, "\(index) \(offset) \(size)") { _ in ckpt_snapshot_read(snapshot, &read, 1, nil, nil) }
            }
            var read = ckpt_read(index: 0, offset: 0, buffer: nil, count: 8)
            expectRefusal(badArgument) { _ in ckpt_snapshot_read(snapshot, &read, 1, nil, nil) }
            for huge in ValueTests.huge {
                expectRefusal(badArgument, "\(huge)") { _ in ckpt_snapshot_read(snapshot, &read, huge, nil, nil) }
            }
            read = ckpt_read(index: 0, offset: 0, buffer: nil, count: 0)
            #expect(ckpt_snapshot_read(snapshot, &read, 1, nil, nil) == CKPT_OK)
            #expect(ckpt_snapshot_read(snapshot, nil, 0, nil, nil) == CKPT_OK)
        }
        #expect(room.allSatisfy { $0 == 9 })
        for huge in ValueTests.huge {
            expectRefusal(badArgument, "\(huge)") { ckpt_store_prune(store, "{\"keep_last\":1}", nil, huge, 1, nil, nil, &$0.json) }
            expectRefusal(badArgument, "\(huge)") { ckpt_ingest_files(store, "x", 0, nil, huge, nil, 0, 0, nil, nil, nil, &$0.json) }
            expectRefusal(badArgument, "\(huge)") { ckpt_ingest_files(store, "x", 0, nil, 0, nil, huge, 0, nil, nil, nil, &$0.json) }
            expectRefusal(badArgument, "\(huge)") { ckpt_probe_add(store, "q", nil, huge, &$0.json) }
            "s".withCString { id in
                var sample = ckpt_sample(id: id, tokens: nil, token_count: huge, supervised: nil, range_count: 0)
                expectRefusal(badArgument, "\(huge)") { ckpt_probe_add(store, "q", &sample, 1, &$0.json) }
                sample = ckpt_sample(id: id, tokens: nil, token_count: 0, supervised: nil, range_count: huge)
                expectRefusal(badArgument, "\(huge)") { ckpt_probe_add(store, "q", &sample, 1, &$0.json) }
                var file = ckpt_file(path: id, location: nil, pieces: nil, piece_count: huge)
                expectRefusal(badArgument, "\(huge)") { ckpt_ingest_files(store, "x", 0, &file, 1, nil, 0, 0, nil, nil, nil, &$0.json) }
                var piece = ckpt_piece(bytes: nil, count: UInt64(bitPattern: Int64(huge)))
                withUnsafePointer(to: &piece) { piece in
                    file = ckpt_file(path: id, location: nil, pieces: piece, piece_count: 1)
                    expectRefusal(badArgument, "\(huge)") { ckpt_ingest_files(store, "x", 0, &file, 1, nil, 0, 0, nil, nil, nil, &$0.json) }
                }
            }
            for member in [\ckpt_ingest_options.tag_count, \.metric_count] {
                let refused = CFixture.ingest(store, CFixture.model.bytes, run: "x", step: 0) { $0[keyPath: member] = huge }
                #expect(refused.status == badArgument && refused.json == nil)
            }
        }
        #expect(CFixture.ingest(store, CFixture.model.bytes, run: "x", step: 0, change: { $0.packing = 9 }).status == badArgument)
        #expect([ckpt_status(-1), .min, .max, 14].map { String(cString: ckpt_status_name($0)) } == Array(repeating: "unknown", count: 4))
        #expect(String(cString: ckpt_status_name(13)) == "bad argument")
        #expect(try fixture.state() == before)
        // As long as anybody could wish for, and the last step there is.
        for timeout in [0, 1e10, 1e300, Double.greatestFiniteMagnitude] {
            var patient: OpaquePointer?
            #expect(ckpt_store_open(fixture.path, timeout, &patient) == CKPT_OK)
            #expect(CFixture.ingest(patient, CFixture.model.bytes, run: "last", step: .max).status == CKPT_OK, "\(CFixture.message)")
            #expect(ckpt_store_close(patient) == CKPT_OK)
        }
        #expect(CFixture.ingest(store, SafetensorsFixture.model(seed: 3).bytes, run: "last", step: .max - 1).status == CKPT_OK, "\(CFixture.message)")
        _ = try CFixture.document { ckpt_store_prune(store, "{\"keep_last\": 1}", nil, 0, 1, nil, nil, $0) }
        _ = try CFixture.document { ckpt_store_prune(store, "{\"keep_every\": 18446744073709551615, \"keep_last\": 9223372036854775807}", nil, 0, 0, nil, nil, $0) }
        var newest: OpaquePointer?
        #expect(ckpt_snapshot_open(store, "last@18446744073709551615", &newest) == CKPT_OK)
        #expect(ckpt_snapshot_close(newest) == CKPT_OK)
        try fixture.expectWhole()
    }

    @Test func sizesOfStructures() throws {
        let fixture = try CFixture()
        let (store, before) = (fixture.store, try fixture.state())
        for size in [0, 1, 7, 12, 13, 20, 4096, Int.max, -1] {
            expectRefusal(badArgument, "\(size)") { outs in
                outs.tensor.struct_size = size
                return ckpt_snapshot_tensor(fixture.snapshot, 0, &outs.tensor)
            }
            expectRefusal(badArgument, "\(size)") { outs in
                outs.outputs.struct_size = size
                return ckpt_entropies_get(store, "r", "p", nil, &outs.outputs)
            }
            var outputs = ckpt_outputs()
            outputs.struct_size = size
            ckpt_outputs_free(&outputs)
            expectRefusal(badArgument, "\(size)") { ckpt_entropies_put(store, "r", "p", nil, nil, &outputs, &$0.json) }
            #expect(CFixture.ingest(store, CFixture.model.bytes, run: "x", step: 0, change: { $0.struct_size = size }).status == badArgument, "\(size)")
            var diff = ckpt_diff_options()
            diff.struct_size = size
            expectRefusal(badArgument, "\(size)") { ckpt_diff(store, "r@0", store, "r@1", &diff, nil, nil, &$0.json) }
        }
        // Of a program that knows less: what is behind its end is not looked at.
        var diff = ckpt_diff_options()
        (diff.struct_size, diff.by, diff.full, diff.spectrum) = (16, Int32(CKPT_BY_LAYER), 0, 4_000_000_000)
        _ = try CFixture.document { ckpt_diff(store, "r@0", store, "r@1", &diff, nil, nil, $0) }
        for (by, full, norms, spectrum) in [(9, 0, 0, 0), (-1, 0, 0, 0), (0, 0, 0, 65), (1, 0, 1, 0), (2, 0, 0, 1)] as [(Int32, Int32, Int32, UInt32)] {
            var diff = ckpt_diff_options(struct_size: MemoryLayout<ckpt_diff_options>.size, by: by, full: full, norms: norms, spectrum: spectrum, only: nil)
            expectRefusal(badArgument) { ckpt_diff(store, "r@0", store, "r@1", &diff, nil, nil, &$0.json) }
        }
        #expect(try fixture.state() == before)
    }

    @Test func documents() throws {
        let fixture = try CFixture()
        let (store, before) = (fixture.store, try fixture.state())
        let deep = String(repeating: "[", count: 200_000)
        for text in [
            "", "{", "nothing", "[]", "1", "null", "{} {}", deep, "{\"a\":\(deep)", "{\"keep_last\":-1}", "{\"keep_last\":1.5}", "{\"keep_last\":1e300}",
            "{\"keep_last\":99999999999999999999999}", "{\"keep_tags\":1}", "{\"keep_best\":[1]}", "{\"probe\":3}", "{\"keep_last\":\"1\"}",
        ] {
            expectRefusal(CKPT_BAD_INPUT, "\(text.prefix(40))") { ckpt_store_prune(store, text, nil, 0, 0, nil, nil, &$0.json) }
        }
        expectRefusal(CKPT_INCOMPATIBLE) { ckpt_store_prune(store, "{\"keep_what_is_new\":1}", nil, 0, 0, nil, nil, &$0.json) }
        let run = strdup("no such run")
        defer { free(run) }
        var runs = [UnsafePointer<CChar>(run)]
        var outs = Outs()
        #expect(ckpt_store_prune(store, "{\"keep_last\":1}", &runs, 1, 1, nil, nil, &outs.json) != CKPT_OK)
        #expect(outs.areUntouched)
        for text in ["", "{", "[]", "{\"a\":1}", "{\"a\":null}", deep, "{\"precision\":{}}"] {
            expectRefusal(CKPT_BAD_INPUT, "\(text.prefix(40))") { ckpt_entropies_get(store, "r", "p", text, &$0.outputs) }
            expectOutputs(store, CKPT_BAD_INPUT, settings: text, [0], [0, 3], [1, 2, 3])
            expectOutputs(store, CKPT_BAD_INPUT, provenance: text, [0], [0, 3], [1, 2, 3])
        }
        // Outputs that are not what they say.
        expectOutputs(store, badArgument, [0], [1, 3], [1, 2, 3])
        expectOutputs(store, badArgument, [0], [0, 2], [1, 2, 3])
        expectOutputs(store, badArgument, [0], [0, 4], [1, 2, 3])
        expectOutputs(store, badArgument, [0, 1], [0, 4, 3], [1, 2, 3])
        expectOutputs(store, badArgument, [0, 1], [0, .max, 3], [1, 2, 3])
        expectOutputs(store, badArgument, [.max], [0, 3], [1, 2, 3])
        expectOutputs(store, CKPT_BAD_INPUT, [7], [0, 3], [1, 2, 3])
        expectOutputs(store, CKPT_BAD_INPUT, [0, 0], [0, 3, 6], [1, 2, 3, 1, 2, 3])
        expectOutputs(store, CKPT_BAD_INPUT, [0], [0, 9], [1, 2, 3, 4, 5, 6, 7, 8, 9])
        expectOutputs(store, CKPT_BAD_INPUT, [0], [0, 3], [1, .nan, 3])
        for huge in ValueTests.huge {
            var outputs = ckpt_outputs()
            (outputs.struct_size, outputs.sample_count) = (MemoryLayout<ckpt_outputs>.size, huge)
            expectRefusal(badArgument, "\(huge)") { ckpt_entropies_put(store, "r", "p", nil, nil, &outputs, &$0.json) }
            (outputs.sample_count, outputs.token_count) = (0, huge)
            expectRefusal(badArgument, "\(huge)") { ckpt_entropies_put(store, "r", "p", nil, nil, &outputs, &$0.json) }
            let starts = [UInt64(bitPattern: Int64(huge))]
            starts.withUnsafeBufferPointer { starts in
                outputs.starts = starts.baseAddress
                expectRefusal(badArgument, "\(huge)") { ckpt_entropies_put(store, "r", "p", nil, nil, &outputs, &$0.json) }
            }
        }
        #expect(try fixture.state() == before)
        try fixture.expectWhole()
    }

    private func expectOutputs(
        _ store: OpaquePointer, _ code: Int, settings: String? = nil, provenance: String? = nil, _ samples: [UInt64], _ starts: [UInt64], _ values: [Float],
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        samples.withUnsafeBufferPointer { samples in
            starts.withUnsafeBufferPointer { starts in
                values.withUnsafeBufferPointer { values in
                    var outputs = ckpt_outputs()
                    (outputs.struct_size, outputs.sample_count, outputs.token_count) = (MemoryLayout<ckpt_outputs>.size, samples.count, values.count)
                    (outputs.samples, outputs.starts, outputs.entropy) = (samples.baseAddress, starts.baseAddress, values.baseAddress)
                    expectRefusal(code, sourceLocation: sourceLocation) {
                        ckpt_entropies_put(store, "r", "p", settings, provenance, &outputs, &$0.json)
                    }
                }
            }
        }
    }

    @Test func filesThatAreBroken() throws {
        let fixture = try CFixture()
        let (store, before) = (fixture.store, try fixture.state())
        func file(_ header: String, _ length: UInt64? = nil, data: Int = 16) -> [UInt8] {
            withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Array($0) } + Array(header.utf8) + [UInt8](repeating: 1, count: data)
        }
        func tensor(_ dtype: String, _ shape: String, _ offsets: String) -> String {
            "{\"a\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":\(offsets)}}"
        }
        let broken = [
            [], [1], [UInt8](repeating: 0, count: 8), [UInt8](repeating: 0xFF, count: 64), file("{", 1), file("", 0), file("{}", .max), file("{}", 1 << 62),
            file("[]"), file("{\"a\":1}"), file(tensor("F32", "[4]", "[0,17]")), file(tensor("F32", "[4]", "[16,0]")), file(tensor("F32", "[5]", "[0,16]")),
            file(tensor("F99", "[4]", "[0,16]")), file(tensor("F32", "[-4]", "[0,16]")), file(tensor("F32", "[4294967296,4294967296,4]", "[0,16]")),
            file(tensor("F32", "[4]", "[0,18446744073709551615]")), file(tensor("F32", "[18446744073709551615]", "[0,16]")),
            file(tensor("F32", "[4]", "[1,17]"), data: 17), file(tensor("F32", "4", "[0,16]")), file(tensor("F32", "[4]", "[0]")), file(tensor("F32", "[4.5]", "[0,16]")),
            file(String(repeating: "{\"a\":", count: 50_000)), Array(CFixture.model.bytes.dropLast()), CFixture.model.bytes + [0],
        ]
        for (index, bytes) in broken.enumerated() {
            let refused = CFixture.ingest(store, bytes, run: "x", step: 0)
            #expect([CKPT_BAD_INPUT, CKPT_INCOMPLETE].contains(Int(refused.status)), "\(index): \(refused.status) \(CFixture.message)")
            #expect(refused.json == nil && !CFixture.message.contains("\n"))
        }
        for name in ["pytorch_model.bin", "model.pt"] {
            for bytes in [[0x50, 0x4B, 5, 6] + [UInt8](repeating: 0xFF, count: 18), [0x50, 0x4B, 3, 4], []] as [[UInt8]] {
                let status = CFixture.ingest(store, bytes, run: "x", step: 0, as: name).status
                if status == CKPT_OK { #expect(ckpt_store_remove(store, "x") == CKPT_OK) }
            }
        }
        #expect(try fixture.state() == before)
        // A name with a NUL in it, which no C string has: it ends there.
        let name = "{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}"
        #expect(CFixture.ingest(store, file(name), run: "nul", step: 0).status == CKPT_OK)
        var snapshot: OpaquePointer?
        #expect(ckpt_snapshot_open(store, "nul", &snapshot) == CKPT_OK)
        var outs = Outs()
        #expect(ckpt_snapshot_tensor(snapshot, 0, &outs.tensor) == CKPT_OK && String(cString: outs.tensor.name) == "a")
        #expect(ckpt_snapshot_close(snapshot) == CKPT_OK)
        try fixture.expectWhole()
    }

    @Test func whoStopsChangesNothing() throws {
        let fixture = try CFixture()
        let (store, before) = (fixture.store, try fixture.state())
        let stop: ckpt_progress = { _, _, _ in 1 }
        let stopped = CFixture.ingest(store, SafetensorsFixture.model(seed: 9).bytes, run: "x", step: 0, progress: stop)
        #expect(stopped.status == CKPT_INTERRUPTED, "\(CFixture.message)")
        let directory = fixture.directory.path + "/checkpoint-7"
        try FileTree.write(SafetensorsFixture.model(seed: 9).bytes, to: directory + "/model.safetensors")
        let interrupted = CKPT_INTERRUPTED
        expectRefusal(interrupted, "ingest_path") { ckpt_ingest_path(store, directory, "x", nil, nil, stop, nil, &$0.json) }
        expectRefusal(interrupted, "verify") { ckpt_store_verify(fixture.path, 0, stop, nil, &$0.json) }
        expectRefusal(interrupted, "diff") { ckpt_diff(store, "r@0", store, "r@1", nil, stop, nil, &$0.json) }
        expectRefusal(interrupted, "export") { _ in ckpt_store_export(store, "packed", fixture.directory.path + "/out", stop, nil) }
        #expect(!FileManager.default.fileExists(atPath: fixture.directory.path + "/out"))
        var room = [UInt8](repeating: 0, count: 64)
        room.withUnsafeMutableBytes { room in
            var read = ckpt_read(index: 0, offset: 0, buffer: room.baseAddress, count: 64)
            expectRefusal(interrupted, "read") { _ in ckpt_snapshot_read(fixture.snapshot, &read, 1, stop, nil) }
        }
        #expect(try fixture.state() == before)
        expectRefusal(interrupted, "prune") { ckpt_store_prune(store, "{\"keep_last\":1}", nil, 0, 0, stop, nil, &$0.json) }
        #expect(try fixture.state() == before)
        try fixture.expectWhole()
    }
}
