import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

extension StoreOptions {
    /// The checkpoint that a snapshot's name or a path stands for.
    func contents(_ name: String) throws(StoreError) -> CheckpointContents {
        try isOutsideTheStore(name) ? CheckpointContents(path: name) : open().contents(name)
    }

    /// A path when there is a file of that name and it looks like one, or no snapshot has the name.
    func isOutsideTheStore(_ name: String) throws(StoreError) -> Bool {
        guard access(name, F_OK) == 0 else {
            let isPath = ["/", "./", "../"].contains { name.hasPrefix($0) } || name.hasSuffix(".safetensors")
            if isPath { throw StoreError(.badInput, "\(name): no such file or directory") }
            return false
        }
        if name.contains("/") || name.hasSuffix(".safetensors") { return true }
        do throws(StoreError) {
            _ = try open().snapshot(name)
            return false
        } catch {
            guard error.code == .noSuchRef || error.code == .noStore else { throw error }
            return true
        }
    }
}
