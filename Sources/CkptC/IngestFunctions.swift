import BlockCodec
import CheckpointReports
import CheckpointStore
public import CkptABI

@c @implementation public func ckpt_ingest_path(
    _ store: OpaquePointer?, _ path: UnsafePointer<CChar>?, _ run: UnsafePointer<CChar>?, _ step: UnsafePointer<UInt64>?,
    _ options: UnsafePointer<ckpt_ingest_options>?, _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        var wishes = try IngestOptions(options)
        (wishes.run, wishes.step) = (try Argument.optionalText(run, "run"), step?.pointee)
        let results = try StoreHandle.find(store).ingest(
            Argument.text(path, "path"), options: wishes, monitor: ProgressCall(progress, context).monitor)
        try give(.array(results.map(\.json)), out)
    }
}

@c @implementation public func ckpt_ingest_files(
    _ store: OpaquePointer?, _ run: UnsafePointer<CChar>?, _ step: UInt64, _ files: UnsafePointer<ckpt_file>?, _ file_count: Int,
    _ joins: UnsafePointer<UnsafePointer<CChar>?>?, _ join_count: Int, _ is_piece: Int32, _ options: UnsafePointer<ckpt_ingest_options>?,
    _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let found = try Argument.items(files, file_count, "files").map { try CheckpointFile($0) }
        let result = try StoreHandle.find(store).ingest(
            found, run: Argument.text(run, "run"), step: step, joining: Argument.texts(joins, join_count, "joins"), isPiece: is_piece != 0,
            options: IngestOptions(options), monitor: ProgressCall(progress, context).monitor)
        try give(result.json, out)
    }
}

extension CheckpointFile {
    fileprivate init(_ file: ckpt_file) throws(CallError) {
        let path = try Argument.text(file.path, "file.path")
        if let location = try Argument.optionalText(file.location, "file.location") {
            self.init(path, at: location)
            return
        }
        var pieces: [UnsafeRawBufferPointer] = []
        var total: UInt64 = 0
        for piece in try Argument.items(file.pieces, file.piece_count, "\(path): pieces") {
            let bytes = try Argument.bytes(piece.bytes, piece.count, "\(path): a piece")
            total += UInt64(bytes.count)
            guard total <= UInt64(Int.max) else { throw CallError(.badArgument, "\(path): \(total) bytes are more than there can be") }
            pieces.append(bytes)
        }
        self.init(path, pieces: pieces)
    }
}

extension IngestOptions {
    fileprivate init(_ pointer: UnsafePointer<ckpt_ingest_options>?) throws(CallError) {
        let given = try Argument.options(pointer, ckpt_ingest_options(), "options")
        self.init()
        parent = try Argument.optionalText(given.parent, "options.parent")
        tags = try Argument.texts(given.tags, given.tag_count, "options.tags")
        let names = try Argument.texts(given.metric_names, given.metric_count, "options.metric_names")
        let values = try Argument.items(given.metric_values, given.metric_count, "options.metric_values")
        metrics = Dictionary(zip(names, values)) { $1 }
        switch given.packing {
        case Int32(CKPT_PACK_DELTA): packing = .delta
        case Int32(CKPT_PACK_DENSE): packing = .dense
        case Int32(CKPT_PACK_RAW): packing = .raw
        default: throw CallError(.badArgument, "options.packing is \(given.packing)")
        }
        pin = given.pin != 0
        keepsOptimizer = given.leaves_out_optimizer == 0
        makesImage = given.without_image == 0
        replaces = given.replaces != 0
        optimizerKeep = given.optimizer_keep == 0 ? nil : Int(given.optimizer_keep)
    }
}
