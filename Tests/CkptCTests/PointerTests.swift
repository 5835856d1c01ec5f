import CkptABI
import Foundation
import TestSupport
import Testing

/// What is no pointer, no handle or no text is refused, and nothing is changed.
@Suite struct PointerTests {
    private let badHandle = CKPT_BAD_HANDLE
    private let badArgument = CKPT_BAD_ARGUMENT

    @Test func everyPointerIsChecked() throws {
        let fixture = try CFixture()
        let (store, snapshot, before) = (fixture.store, fixture.snapshot, try fixture.state())
        let b = badArgument
        expectRefusal(b, "create") { _ in ckpt_store_create(nil) }
        expectRefusal(b, "open path") { ckpt_store_open(nil, 1, &$0.handle) }
        expectRefusal(b, "open out") { _ in ckpt_store_open(fixture.path, 1, nil) }
        expectRefusal(b, "history") { _ in ckpt_store_history(store, nil, nil) }
        expectRefusal(b, "stats") { _ in ckpt_store_stats(store, nil) }
        expectRefusal(b, "metrics ref") { ckpt_store_metrics(store, nil, &$0.json) }
        expectRefusal(b, "metrics out") { _ in ckpt_store_metrics(store, "r", nil) }
        expectRefusal(b, "set_metric ref") { _ in ckpt_store_set_metric(store, nil, "loss", 1) }
        expectRefusal(b, "set_metric name") { _ in ckpt_store_set_metric(store, "r", nil, 1) }
        expectRefusal(b, "tag ref") { _ in ckpt_store_tag(store, nil, "t") }
        expectRefusal(b, "tag tag") { _ in ckpt_store_tag(store, "r", nil) }
        expectRefusal(b, "untag") { _ in ckpt_store_untag(store, nil) }
        expectRefusal(b, "pin") { _ in ckpt_store_pin(store, nil) }
        expectRefusal(b, "unpin") { _ in ckpt_store_unpin(store, nil) }
        expectRefusal(b, "remove") { _ in ckpt_store_remove(store, nil) }
        expectRefusal(b, "path ref") { ckpt_store_path(store, nil, &$0.json) }
        expectRefusal(b, "path out") { _ in ckpt_store_path(store, "r", nil) }
        expectRefusal(b, "export ref") { _ in ckpt_store_export(store, nil, fixture.path + "-x", nil, nil) }
        expectRefusal(b, "export directory") { _ in ckpt_store_export(store, "r", nil, nil, nil) }
        expectRefusal(b, "file ref") { ckpt_store_file(store, nil, "a", &$0.bytes, &$0.count) }
        expectRefusal(b, "file path") { ckpt_store_file(store, "r", nil, &$0.bytes, &$0.count) }
        expectRefusal(b, "file bytes") { ckpt_store_file(store, "r", "a", nil, &$0.count) }
        expectRefusal(b, "file count") { ckpt_store_file(store, "r", "a", &$0.bytes, nil) }
        expectRefusal(b, "verify path") { ckpt_store_verify(nil, 0, nil, nil, &$0.json) }
        expectRefusal(b, "verify out") { _ in ckpt_store_verify(fixture.path, 0, nil, nil, nil) }
        expectRefusal(b, "prune policy") { ckpt_store_prune(store, nil, nil, 0, 1, nil, nil, &$0.json) }
        expectRefusal(b, "prune runs") { ckpt_store_prune(store, "{\"keep_last\":1}", nil, 1, 1, nil, nil, &$0.json) }
        expectRefusal(b, "prune out") { _ in ckpt_store_prune(store, "{\"keep_last\":1}", nil, 0, 0, nil, nil, nil) }
        expectRefusal(b, "snapshot_open ref") { ckpt_snapshot_open(store, nil, &$0.handle) }
        expectRefusal(b, "snapshot_open out") { _ in ckpt_snapshot_open(store, "r", nil) }
        expectRefusal(b, "id") { _ in ckpt_snapshot_id(snapshot, nil) }
        expectRefusal(b, "describe") { _ in ckpt_snapshot_describe(snapshot, nil) }
        expectRefusal(b, "metadata") { _ in ckpt_snapshot_metadata(snapshot, nil) }
        expectRefusal(b, "tensor_count") { _ in ckpt_snapshot_tensor_count(snapshot, nil) }
        expectRefusal(b, "tensor") { _ in ckpt_snapshot_tensor(snapshot, 0, nil) }
        expectRefusal(b, "find name") { ckpt_snapshot_find(snapshot, nil, &$0.count) }
        expectRefusal(b, "find out") { _ in ckpt_snapshot_find(snapshot, "layers.0.norm", nil) }
        expectRefusal(b, "map view") { ckpt_snapshot_map(snapshot, 0, nil, &$0.mapped, &$0.count) }
        expectRefusal(b, "map bytes") { ckpt_snapshot_map(snapshot, 0, &$0.handle, nil, &$0.count) }
        expectRefusal(b, "map count") { ckpt_snapshot_map(snapshot, 0, &$0.handle, &$0.mapped, nil) }
        expectRefusal(b, "read") { _ in ckpt_snapshot_read(snapshot, nil, 1, nil, nil) }
        expectRefusal(b, "ingest_path path") { ckpt_ingest_path(store, nil, nil, nil, nil, nil, nil, &$0.json) }
        expectRefusal(b, "ingest_path out") { _ in ckpt_ingest_path(store, "/", nil, nil, nil, nil, nil, nil) }
        expectRefusal(b, "ingest_files run") { ckpt_ingest_files(store, nil, 1, nil, 0, nil, 0, 0, nil, nil, nil, &$0.json) }
        expectRefusal(b, "ingest_files files") { ckpt_ingest_files(store, "x", 1, nil, 1, nil, 0, 0, nil, nil, nil, &$0.json) }
        expectRefusal(b, "ingest_files joins") { ckpt_ingest_files(store, "x", 1, nil, 0, nil, 1, 0, nil, nil, nil, &$0.json) }
        expectRefusal(b, "ingest_files out") { _ in ckpt_ingest_files(store, "x", 1, nil, 0, nil, 0, 0, nil, nil, nil, nil) }
        expectRefusal(b, "diff first") { ckpt_diff(store, nil, store, "r", nil, nil, nil, &$0.json) }
        expectRefusal(b, "diff second") { ckpt_diff(store, "r", store, nil, nil, nil, nil, &$0.json) }
        expectRefusal(b, "diff out") { _ in ckpt_diff(store, "r", store, "r", nil, nil, nil, nil) }
        expectRefusal(b, "probe_add name") { ckpt_probe_add(store, nil, nil, 0, &$0.json) }
        expectRefusal(b, "probe_add samples") { ckpt_probe_add(store, "q", nil, 1, &$0.json) }
        expectRefusal(b, "probe_add out") { _ in ckpt_probe_add(store, "q", nil, 0, nil) }
        expectRefusal(b, "probe_list") { _ in ckpt_probe_list(store, nil) }
        expectRefusal(b, "probe_samples name") { ckpt_probe_samples(store, nil, &$0.json) }
        expectRefusal(b, "probe_samples out") { _ in ckpt_probe_samples(store, "p", nil) }
        expectRefusal(b, "probe_remove") { _ in ckpt_probe_remove(store, nil) }
        expectRefusal(b, "put outputs") { ckpt_entropies_put(store, "r", "p", nil, nil, nil, &$0.json) }
        expectRefusal(b, "get ref") { ckpt_entropies_get(store, nil, "p", nil, &$0.outputs) }
        expectRefusal(b, "get probe") { ckpt_entropies_get(store, "r", nil, nil, &$0.outputs) }
        expectRefusal(b, "get out") { _ in ckpt_entropies_get(store, "r", "p", nil, nil) }
        expectRefusal(b, "list") { _ in ckpt_entropies_list(store, nil, nil, nil) }
        ckpt_free(nil)
        ckpt_outputs_free(nil)
        #expect(try fixture.state() == before)
        try fixture.expectWhole()
    }

    /// Every function with a handle, by name.
    private let withStore: [(String, (OpaquePointer?, inout Outs) -> ckpt_status)] = [
        ("history", { ckpt_store_history($0, nil, &$1.json) }),
        ("stats", { ckpt_store_stats($0, &$1.json) }),
        ("metrics", { ckpt_store_metrics($0, "r", &$1.json) }),
        ("set_metric", { store, _ in ckpt_store_set_metric(store, "r", "loss", 1) }),
        ("tag", { store, _ in ckpt_store_tag(store, "r", "t") }),
        ("untag", { store, _ in ckpt_store_untag(store, "t") }),
        ("pin", { store, _ in ckpt_store_pin(store, "r") }),
        ("unpin", { store, _ in ckpt_store_unpin(store, "r") }),
        ("remove", { store, _ in ckpt_store_remove(store, "r") }),
        ("path", { ckpt_store_path($0, "r", &$1.json) }),
        ("export", { store, _ in ckpt_store_export(store, "r", "/nowhere/x", nil, nil) }),
        ("file", { ckpt_store_file($0, "r", "a", &$1.bytes, &$1.count) }),
        ("prune", { ckpt_store_prune($0, "{}", nil, 0, 0, nil, nil, &$1.json) }),
        ("snapshot_open", { ckpt_snapshot_open($0, "r", &$1.handle) }),
        ("ingest_path", { ckpt_ingest_path($0, "/", nil, nil, nil, nil, nil, &$1.json) }),
        ("ingest_files", { ckpt_ingest_files($0, "x", 0, nil, 0, nil, 0, 0, nil, nil, nil, &$1.json) }),
        ("probe_add", { ckpt_probe_add($0, "q", nil, 0, &$1.json) }),
        ("probe_list", { ckpt_probe_list($0, &$1.json) }),
        ("probe_samples", { ckpt_probe_samples($0, "p", &$1.json) }),
        ("probe_remove", { store, _ in ckpt_probe_remove(store, "p") }),
        ("put", { store, outs in
            var outputs = ckpt_outputs()
            outputs.struct_size = MemoryLayout<ckpt_outputs>.size
            return ckpt_entropies_put(store, "r", "p", nil, nil, &outputs, &outs.json)
        }),
        ("get", { ckpt_entropies_get($0, "r", "p", nil, &$1.outputs) }),
        ("list", { ckpt_entropies_list($0, nil, nil, &$1.json) }),
    ]

    private let withSnapshot: [(String, (OpaquePointer?, inout Outs) -> ckpt_status)] = [
        ("id", { ckpt_snapshot_id($0, &$1.id) }),
        ("describe", { ckpt_snapshot_describe($0, &$1.json) }),
        ("metadata", { ckpt_snapshot_metadata($0, &$1.json) }),
        ("tensor_count", { ckpt_snapshot_tensor_count($0, &$1.count) }),
        ("tensor", { ckpt_snapshot_tensor($0, 0, &$1.tensor) }),
        ("find", { ckpt_snapshot_find($0, "layers.0.norm", &$1.count) }),
        ("map", { ckpt_snapshot_map($0, 0, &$1.handle, &$1.mapped, &$1.count) }),
        ("read", { snapshot, _ in ckpt_snapshot_read(snapshot, nil, 0, nil, nil) }),
    ]

    @Test func whatIsNoHandleIsNotLookedBehind() throws {
        let fixture = try CFixture()
        let before = try fixture.state()
        var (closedStore, closedSnapshot, view): (OpaquePointer?, OpaquePointer?, OpaquePointer?)
        #expect(ckpt_store_open(fixture.path, 1, &closedStore) == CKPT_OK)
        #expect(ckpt_snapshot_open(closedStore, "r", &closedSnapshot) == CKPT_OK)
        #expect(ckpt_store_close(closedStore) == CKPT_OK)
        #expect(ckpt_snapshot_close(closedSnapshot) == CKPT_OK)
        var (bytes, count): (UnsafeRawPointer?, Int) = (nil, 0)
        #expect(ckpt_snapshot_map(fixture.snapshot, 0, &view, &bytes, &count) == CKPT_OK)
        let never = [nil, 1, 8, 0x10001, Int.max, -1].map { $0.flatMap { OpaquePointer(bitPattern: $0) } }
        for (name, call) in withStore {
            for handle in never + [closedStore, closedSnapshot, fixture.snapshot, view] {
                expectRefusal(badHandle, name) { call(handle, &$0) }
            }
        }
        for (name, call) in withSnapshot {
            for handle in never + [closedStore, closedSnapshot, fixture.store, view] {
                expectRefusal(badHandle, name) { call(handle, &$0) }
            }
        }
        // A diff takes NULL for a path.
        for handle in never.dropFirst() + [closedStore, fixture.snapshot] {
            expectRefusal(badHandle, "diff") { ckpt_diff(handle, "r", fixture.store, "r", nil, nil, nil, &$0.json) }
            expectRefusal(badHandle, "diff") { ckpt_diff(fixture.store, "r", handle, "r", nil, nil, nil, &$0.json) }
        }
        for handle in never.dropFirst() + [closedStore] { expectRefusal(badHandle, "close") { _ in ckpt_store_close(handle) } }
        expectRefusal(badHandle, "close") { _ in ckpt_store_close(fixture.snapshot) }
        expectRefusal(badHandle, "close") { _ in ckpt_snapshot_close(fixture.store) }
        expectRefusal(badHandle, "close") { _ in ckpt_snapshot_close(closedSnapshot) }
        expectRefusal(badHandle, "close") { _ in ckpt_view_close(fixture.snapshot) }
        #expect(ckpt_view_close(view) == CKPT_OK)
        expectRefusal(badHandle, "close") { _ in ckpt_view_close(view) }
        #expect([ckpt_store_close(nil), ckpt_snapshot_close(nil), ckpt_view_close(nil)] == [0, 0, 0])
        // From another thread too.
        let closed = closedStore.map { UInt(bitPattern: $0) }
        let thread = Thread { expectRefusal(CKPT_BAD_HANDLE) { ckpt_store_stats(OpaquePointer(bitPattern: closed!), &$0.json) } }
        thread.start()
        while !thread.isFinished { usleep(1000) }
        #expect(try fixture.state() == before)
    }

    @Test func textsThatAreNone() throws {
        let fixture = try CFixture()
        let (store, before) = (fixture.store, try fixture.state())
        let broken: [[UInt8]] = [[0xFF, 0], [0x61, 0xC3, 0], [0xED, 0xA0, 0x80, 0], [0xC0, 0x80, 0]]
        for bytes in broken {
            bytes.map { CChar(bitPattern: $0) }.withUnsafeBufferPointer { text in
                let text = text.baseAddress
                expectRefusal(badArgument) { _ in ckpt_store_create(text) }
                expectRefusal(badArgument) { ckpt_store_open(text, 1, &$0.handle) }
                expectRefusal(badArgument) { ckpt_store_history(store, text, &$0.json) }
                expectRefusal(badArgument) { ckpt_snapshot_open(store, text, &$0.handle) }
                expectRefusal(badArgument) { ckpt_snapshot_find(fixture.snapshot, text, &$0.count) }
                expectRefusal(badArgument) { _ in ckpt_store_tag(store, "r", text) }
                expectRefusal(badArgument) { ckpt_store_prune(store, text, nil, 0, 1, nil, nil, &$0.json) }
                expectRefusal(badArgument) { ckpt_entropies_get(store, "r", "p", text, &$0.outputs) }
                var options = ckpt_diff_options()
                (options.struct_size, options.only) = (MemoryLayout<ckpt_diff_options>.size, text)
                expectRefusal(badArgument) { ckpt_diff(store, "r@0", store, "r@1", &options, nil, nil, &$0.json) }
                var sample = ckpt_sample(id: text, tokens: nil, token_count: 0, supervised: nil, range_count: 0)
                expectRefusal(badArgument) { ckpt_probe_add(store, "q", &sample, 1, &$0.json) }
            }
        }
        // Empty, over-long, with line breaks: bad, each in its own way, and said in one line.
        for text in ["", "a\nb\r\u{1}\u{7F}", String(repeating: "x", count: 100_000), "../../x", "r@99999999999999999999999", "r@", "@", "~", "r~-1"] {
            expectRefusal(CKPT_NO_STORE) { ckpt_store_open(text + "\n", 1, &$0.handle) }
            var outs = Outs()
            #expect(ckpt_snapshot_open(store, text, &outs.handle) != CKPT_OK, "\(text.prefix(20))")
            #expect(outs.areUntouched && !CFixture.message.contains("\n"))
            #expect(ckpt_store_tag(store, "r", text) != CKPT_OK, "\(text.prefix(20))")
            #expect(!CFixture.message.contains("\n"))
            #expect(ckpt_store_set_metric(store, "r", text, 1) != CKPT_OK || text == "../../x", "\(text.prefix(20))")
            #expect(ckpt_snapshot_find(fixture.snapshot, text, &outs.count) == CKPT_NO_SUCH_REF, "\(text.prefix(20))")
            #expect(ckpt_probe_samples(store, text, &outs.json) != CKPT_OK && outs.areUntouched)
            #expect(ckpt_store_untag(store, text) != CKPT_OK)
            #expect(CFixture.message.utf8.count < 4096)
        }
        for name in ["", "a\nb", String(repeating: "x", count: 100_000), "../x", "/x", "a/../b"] {
            for run in ["x", name] {
                #expect(CFixture.ingest(store, CFixture.model.bytes, run: run, step: 0, as: name).status != CKPT_OK, "\(name.prefix(9))")
                #expect(!CFixture.message.contains("\n"))
            }
        }
        #expect(try fixture.state() == before)
        try fixture.expectWhole()
    }
}
