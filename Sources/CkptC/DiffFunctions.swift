import CheckpointDiff
import CheckpointReports
import CheckpointStore
public import CkptABI

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@c @implementation public func ckpt_diff(
    _ first_store: OpaquePointer?, _ first: UnsafePointer<CChar>?, _ second_store: OpaquePointer?, _ second: UnsafePointer<CChar>?,
    _ options: UnsafePointer<ckpt_diff_options>?, _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let wishes = try Argument.options(options, ckpt_diff_options(), "options")
        let only = try Argument.optionalText(wishes.only, "options.only")
        let grouping: DiffGrouping =
            switch wishes.by {
            case Int32(CKPT_BY_TENSOR): .tensor
            case Int32(CKPT_BY_LAYER): .layer
            case Int32(CKPT_BY_KIND): .kind
            default: throw CallError(.badArgument, "options.by is \(wishes.by)")
            }
        guard wishes.spectrum <= 64 else { throw CallError(.badArgument, "options.spectrum is \(wishes.spectrum): 64 at most") }
        guard grouping == .tensor || wishes.spectrum == 0 && wishes.norms == 0 else {
            throw CallError(.badArgument, "options: spectrum and norms are of single tensors")
        }
        func contents(_ store: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ what: String) throws -> CheckpointContents {
            let name = try Argument.text(name, what)
            let contents = try store == nil ? CheckpointContents(path: name) : StoreHandle.find(store).contents(name)
            return only.map { only in contents.keeping { fnmatch(only, $0.name, 0) == 0 } } ?? contents
        }
        let (a, b) = (try contents(first_store, first, "first"), try contents(second_store, second, "second"))
        let progress = ProgressCall(progress, context)
        var delta = try CheckpointDiff.compare(a, b, detail: wishes.full != 0 || wishes.norms != 0 ? .full : .basic, monitor: progress.monitor) {
            progress.report($0.doneBytes, $0.totalBytes)
        }
        if wishes.spectrum > 0 {
            try delta.addSpectra(a, b, count: Int(wishes.spectrum), monitor: progress.monitor) { progress.report($0.doneBytes, $0.totalBytes) }
        }
        let report = DiffReport(delta, delta.groups(by: grouping), grouping, norms: wishes.norms != 0, names: RowNames(b, a))
        try give(report.json, out)
    }
}
