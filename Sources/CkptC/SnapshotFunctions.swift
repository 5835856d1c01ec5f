import CheckpointReports
import CheckpointStore
public import CkptABI
import TensorFormats

@c @implementation public func ckpt_snapshot_open(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ snapshot: UnsafeMutablePointer<OpaquePointer?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(snapshot, "snapshot")
        out.pointee = Handles.add(try SnapshotHandle(Handles.find(store, "store"), Argument.text(ref, "ref")))
    }
}

@c @implementation public func ckpt_snapshot_close(_ snapshot: OpaquePointer?) -> ckpt_status {
    call { try Handles.remove(snapshot, "snapshot", as: SnapshotHandle.self) }
}

@c @implementation public func ckpt_snapshot_id(_ snapshot: OpaquePointer?, _ id: UnsafeMutablePointer<CChar>?) -> ckpt_status {
    call {
        let out = try Argument.out(id, "id")
        let digits = try SnapshotHandle.find(snapshot).snapshot.id.description.utf8CString
        for (index, digit) in digits.enumerated() { out[index] = digit }
    }
}

@c @implementation public func ckpt_snapshot_describe(
    _ snapshot: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let handle = try SnapshotHandle.find(snapshot)
        let files = handle.snapshot.parts.flatMap { part in
            part.files.map { file -> JSONOutput in
                ["path": .string(file.path), "bytes": .unsigned(file.size), "part": .string("\(part.kind)"), "directory": .bool(file.isDirectory)]
            }
        }
        let document: JSONOutput = [
            "id": .string("\(handle.snapshot.id)"), "files": .array(files), "dropped": .strings(handle.snapshot.dropped.map { "\($0.kind)" }),
            "image": .optional(try handle.store.imageInPlace(of: handle.snapshot)),
        ]
        try give(document, out)
    }
}

@c @implementation public func ckpt_snapshot_metadata(
    _ snapshot: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let handle = try SnapshotHandle.find(snapshot)
        let found = try handle.store.safetensorsMetadata(of: handle.snapshot)
        try give(.object(found.sorted { $0.key < $1.key }.map { ($0.key, .texts($0.value)) }), out)
    }
}

@c @implementation public func ckpt_snapshot_tensor_count(_ snapshot: OpaquePointer?, _ count: UnsafeMutablePointer<Int>?) -> ckpt_status {
    call {
        let out = try Argument.out(count, "count")
        out.pointee = try SnapshotHandle.find(snapshot).tensors.count
    }
}

@c @implementation public func ckpt_snapshot_tensor(
    _ snapshot: OpaquePointer?, _ index: Int, _ tensor: UnsafeMutablePointer<ckpt_tensor>?
) -> ckpt_status {
    call {
        let out = try Argument.out(tensor, "tensor")
        try Argument.size(out.pointee.struct_size, of: MemoryLayout<ckpt_tensor>.size, "tensor")
        let handle = try SnapshotHandle.find(snapshot)
        let entry = try handle.tensor(index)
        let lent = handle.lent[index]
        out.pointee = ckpt_tensor(
            struct_size: out.pointee.struct_size, name: lent.name, file: lent.file, part: lent.part, dtype: lent.dtype,
            bits: UInt32(entry.dtype.bits), rank: UInt32(entry.shape.count), shape: lent.shape, strides: lent.strides, byte_count: entry.byteCount,
            file_offset: entry.fileOffset)
    }
}

@c @implementation public func ckpt_snapshot_find(
    _ snapshot: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ index: UnsafeMutablePointer<Int>?
) -> ckpt_status {
    call {
        let out = try Argument.out(index, "index")
        let handle = try SnapshotHandle.find(snapshot)
        let found = try handle.snapshot.tensor(Argument.text(name, "name"))
        out.pointee = handle.tensors.firstIndex { $0.file == found.file && $0.name == found.name }!
    }
}

@c @implementation public func ckpt_snapshot_map(
    _ snapshot: OpaquePointer?, _ index: Int, _ view: UnsafeMutablePointer<OpaquePointer?>?,
    _ bytes: UnsafeMutablePointer<UnsafeRawPointer?>?, _ count: UnsafeMutablePointer<Int>?
) -> ckpt_status {
    call {
        let (viewOut, bytesOut, countOut) = (try Argument.out(view, "view"), try Argument.out(bytes, "bytes"), try Argument.out(count, "count"))
        let handle = try SnapshotHandle.find(snapshot)
        let tensor = try handle.tensor(index)
        guard let mapped = try handle.store.mappedView(of: tensor, in: handle.snapshot) else {
            throw StoreError(
                .conflict, "\(tensor.name): snapshot \(handle.snapshot.id.short) has no image to map", hint: "ckpt_store_path makes one")
        }
        let place = try mapped.withRowBlock(0) { $0 }
        (viewOut.pointee, bytesOut.pointee, countOut.pointee) = (Handles.add(mapped), place.baseAddress, place.count)
    }
}

@c @implementation public func ckpt_view_close(_ view: OpaquePointer?) -> ckpt_status {
    call { try Handles.remove(view, "view", as: TensorView.self) }
}

@c @implementation public func ckpt_snapshot_read(
    _ snapshot: OpaquePointer?, _ reads: UnsafePointer<ckpt_read>?, _ count: Int, _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?
) -> ckpt_status {
    call {
        let handle = try SnapshotHandle.find(snapshot)
        let wanted = try Argument.items(reads, count, "reads").map { read in
            let tensor = try handle.tensor(read.index)
            let room = try Argument.bytes(read.buffer, read.count, "buffer")
            guard read.offset <= tensor.byteCount, read.count <= tensor.byteCount - read.offset else {
                throw CallError(.badArgument, "\(tensor.name): \(read.count) bytes from byte \(read.offset) on, of \(tensor.byteCount)")
            }
            return TensorRead(tensor, offset: read.offset, into: UnsafeMutableRawBufferPointer(mutating: room))
        }
        let progress = ProgressCall(progress, context)
        // Here at least: of a short read this thread may get no part.
        if progress.monitor.isCancelled() { throw StoreError(.interrupted, "interrupted") }
        try handle.contents.read(wanted, monitor: progress.monitor) { progress.report($0.doneBytes, $0.totalBytes) }
    }
}
