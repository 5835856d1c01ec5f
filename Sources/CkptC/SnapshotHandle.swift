import CheckpointStore
import TensorFormats

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// An open snapshot, with what it lends to C.
final class SnapshotHandle: @unchecked Sendable {
    private let handle: StoreHandle
    let snapshot: Snapshot
    let tensors: [TensorEntry]
    /// Of each tensor, what `ckpt_tensor` points to.
    let lent: [Lent]

    struct Lent {
        var name, file, part, dtype: UnsafePointer<CChar>
        var shape: UnsafePointer<UInt64>
        var strides: UnsafePointer<UInt64>?
    }

    private var texts: [String: UnsafeMutablePointer<CChar>] = [:]
    private var numbers: [UnsafeMutablePointer<UInt64>] = []

    init(_ handle: StoreHandle, _ ref: String) throws {
        self.handle = handle
        snapshot = try handle.store.snapshot(ref)
        tensors = snapshot.tensors
        var texts: [String: UnsafeMutablePointer<CChar>] = [:]
        var numbers: [UnsafeMutablePointer<UInt64>] = []
        func text(_ text: String) -> UnsafePointer<CChar> {
            if let known = texts[text] { return UnsafePointer(known) }
            let copy = strdup(text)!
            texts[text] = copy
            return UnsafePointer(copy)
        }
        func list(_ values: [UInt64]) -> UnsafePointer<UInt64> {
            let copy = UnsafeMutablePointer<UInt64>.allocate(capacity: max(1, values.count))
            copy.initialize(from: values, count: values.count)
            numbers.append(copy)
            return UnsafePointer(copy)
        }
        lent = tensors.map { tensor in
            Lent(
                name: text(tensor.name), file: text(tensor.file), part: text("\(tensor.part)"), dtype: text(tensor.dtype.name),
                shape: list(tensor.shape), strides: tensor.strides.map(list))
        }
        self.texts = texts
        self.numbers = numbers
    }

    deinit {
        for text in texts.values { free(text) }
        for list in numbers { list.deallocate() }
    }

    var store: Store { get throws { try handle.store } }

    /// Its contents over its image, once they were asked for; kept, so that what is mapped stays so. With the process they were opened in.
    private var mapped: (contents: CheckpointContents, process: pid_t)?

    var contents: CheckpointContents {
        get throws {
            if let known = SharedLock.with({ mapped }), known.process == getpid() { return known.contents }
            let contents = try store.contents("\(snapshot.id)")
            // Of what is packed an image may be made yet.
            if contents.hasImage { SharedLock.with { mapped = (contents, getpid()) } }
            return contents
        }
    }

    /// - Throws: `.badArgument`.
    func tensor(_ index: Int) throws(CallError) -> TensorEntry {
        guard tensors.indices.contains(index) else { throw CallError(.badArgument, "tensor \(UInt(bitPattern: index)) of \(tensors.count)") }
        return tensors[index]
    }

    static func find(_ handle: OpaquePointer?) throws(CallError) -> SnapshotHandle { try Handles.find(handle, "snapshot") }
}
