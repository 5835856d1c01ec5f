import CheckpointReports
import CheckpointStore
public import CkptABI
import TensorFormats
import WeakTraining

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Text that lives as long as the process.
private enum Constant {
    nonisolated(unsafe) static let version = text(CkptVersion.current)
    nonisolated(unsafe) static let statuses = [
        "ok", "failed", "no store", "no such ref", "bad input", "conflict", "incomplete", "locked", "damaged", "incompatible", "disk full",
        "interrupted", "bad handle", "bad argument",
    ].map(text)
    nonisolated(unsafe) static let unknown = text("unknown")

    private static func text(_ text: String) -> UnsafePointer<CChar>? { UnsafePointer(strdup(text)) }
}

@c @implementation public func ckpt_abi_version() -> Int32 { CKPT_ABI_VERSION }

@c @implementation public func ckpt_version() -> UnsafePointer<CChar>? { Constant.version }

@c @implementation public func ckpt_status_name(_ status: ckpt_status) -> UnsafePointer<CChar>? {
    Constant.statuses.indices.contains(Int(status)) ? Constant.statuses[Int(status)] : Constant.unknown
}

@c @implementation public func ckpt_free(_ given: UnsafeMutableRawPointer?) { free(given) }

@c @implementation public func ckpt_store_create(_ path: UnsafePointer<CChar>?) -> ckpt_status {
    call { try Store.create(at: Argument.text(path, "path")) }
}

@c @implementation public func ckpt_store_open(
    _ path: UnsafePointer<CChar>?, _ lock_timeout: Double, _ store: UnsafeMutablePointer<OpaquePointer?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(store, "store")
        guard lock_timeout >= 0, lock_timeout.isFinite else { throw CallError(.badArgument, "lock_timeout is \(lock_timeout)") }
        out.pointee = Handles.add(try StoreHandle(Argument.text(path, "path"), lockTimeout: lock_timeout))
    }
}

@c @implementation public func ckpt_store_close(_ store: OpaquePointer?) -> ckpt_status {
    call { try Handles.remove(store, "store", as: StoreHandle.self) }
}

@c @implementation public func ckpt_store_history(
    _ store: OpaquePointer?, _ run: UnsafePointer<CChar>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let history = try StoreHandle.find(store).history(of: Argument.optionalText(run, "run"))
        try give(.array(history.map(\.json)), out)
    }
}

@c @implementation public func ckpt_store_stats(
    _ store: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        try give(StoreHandle.find(store).stats().json, out)
    }
}

@c @implementation public func ckpt_store_metrics(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let metrics = try StoreHandle.find(store).metrics(of: Argument.text(ref, "ref"))
        try give(.object(metrics.sorted { $0.key < $1.key }.map { ($0.key, .double($0.value)) }), out)
    }
}

@c @implementation public func ckpt_store_set_metric(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ name: UnsafePointer<CChar>?, _ value: Double
) -> ckpt_status {
    call { try StoreHandle.find(store).setMetric(Argument.text(name, "name"), value, of: Argument.text(ref, "ref")) }
}

@c @implementation public func ckpt_store_tag(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ tag: UnsafePointer<CChar>?
) -> ckpt_status {
    call { try StoreHandle.find(store).tag(Argument.text(ref, "ref"), as: Argument.text(tag, "tag")) }
}

@c @implementation public func ckpt_store_untag(_ store: OpaquePointer?, _ tag: UnsafePointer<CChar>?) -> ckpt_status {
    call { try StoreHandle.find(store).removeTag(Argument.text(tag, "tag")) }
}

@c @implementation public func ckpt_store_pin(_ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?) -> ckpt_status {
    call { _ = try StoreHandle.find(store).pin(Argument.text(ref, "ref")) }
}

@c @implementation public func ckpt_store_unpin(_ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?) -> ckpt_status {
    call { try StoreHandle.find(store).unpin(Argument.text(ref, "ref")) }
}

@c @implementation public func ckpt_store_remove(_ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?) -> ckpt_status {
    call { _ = try StoreHandle.find(store).remove(Argument.text(ref, "ref")) }
}

@c @implementation public func ckpt_store_path(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ text: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(text, "text")
        try give(StoreHandle.find(store).imageDirectory(of: Argument.text(ref, "ref")), out)
    }
}

@c @implementation public func ckpt_store_export(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ directory: UnsafePointer<CChar>?, _ progress: ckpt_progress?,
    _ context: UnsafeMutableRawPointer?
) -> ckpt_status {
    call {
        let progress = ProgressCall(progress, context)
        try StoreHandle.find(store).export(
            Argument.text(ref, "ref"), to: Argument.text(directory, "directory"), monitor: progress.monitor
        ) { progress.report($0.doneBytes, $0.totalBytes) }
    }
}

@c @implementation public func ckpt_store_file(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ path: UnsafePointer<CChar>?,
    _ bytes: UnsafeMutablePointer<UnsafeMutablePointer<UInt8>?>?, _ count: UnsafeMutablePointer<Int>?
) -> ckpt_status {
    call {
        let (bytesOut, countOut) = (try Argument.out(bytes, "bytes"), try Argument.out(count, "count"))
        let (ref, path) = (try Argument.text(ref, "ref"), try Argument.text(path, "path"))
        guard let contents = try StoreHandle.find(store).sidecars(ref).contents(path) else {
            throw StoreError(.noSuchRef, "\(ref): no file \(path)")
        }
        // One byte more: of nothing there may be no memory.
        guard let room = malloc(contents.count + 1) else { throw StoreError(.failed, "out of memory") }
        room.copyMemory(from: contents, byteCount: contents.count)
        bytesOut.pointee = room.assumingMemoryBound(to: UInt8.self)
        countOut.pointee = contents.count
    }
}

@c @implementation public func ckpt_store_verify(
    _ path: UnsafePointer<CChar>?, _ quick: Int32, _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let progress = ProgressCall(progress, context)
        let report = try Store.verify(Argument.text(path, "path"), depth: quick != 0 ? .quick : .full, monitor: progress.monitor) {
            progress.report($0.doneBytes, $0.totalBytes)
        }
        try give(report.json, out)
    }
}

@c @implementation public func ckpt_store_prune(
    _ store: OpaquePointer?, _ policy: UnsafePointer<CChar>?, _ runs: UnsafePointer<UnsafePointer<CChar>?>?, _ run_count: Int, _ dry_run: Int32,
    _ progress: ckpt_progress?, _ context: UnsafeMutableRawPointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let store = try StoreHandle.find(store)
        let policy = try RetentionPolicy(given: Argument.text(policy, "policy"))
        let runs = try Argument.texts(runs, run_count, "runs")
        let progress = ProgressCall(progress, context)
        let names = runs.isEmpty ? try Array(Set(store.history().map(\.run))).sorted() : runs
        let worths = try WorthOfRuns(store: store, policy: policy, monitor: progress.monitor).worths(names)
        let plan = try store.plan(
            policy, runs: runs.isEmpty ? nil : runs, worths: worths, needed: NeededSnapshots.all(store), rebases: true)
        let report: PruneReport
        if dry_run != 0 {
            let changes = !(plan.dropped.isEmpty && plan.optimizers.isEmpty)
            let forecast = changes ? try store.forecastRebasing(plan, monitor: progress.monitor) { progress.report($0.doneBytes, $0.totalBytes) } : nil
            report = PruneReport(plan: plan, forecast: forecast)
        } else {
            let result = try store.prune(plan, rebases: true, monitor: progress.monitor) { progress.report($0.bytes.doneBytes, $0.bytes.totalBytes) }
            report = PruneReport(plan: plan, result: result)
        }
        try give(report.json, out)
    }
}

extension RetentionPolicy {
    /// One that a caller wrote: what is wrong with it is bad input, where it would be damage in a store.
    fileprivate init(given text: String) throws(StoreError) {
        let value: JSONValue
        do { value = try JSONValue.parse(Array(text.utf8), path: "policy") } catch { throw StoreError(.badInput, "\(error)") }
        do throws(StoreError) {
            try self.init(value, what: "policy")
        } catch {
            throw error.code == .damaged ? StoreError(.badInput, error.reason, hint: error.hint) : error
        }
    }
}
