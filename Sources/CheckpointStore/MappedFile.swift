internal import CKernels
internal import Synchronization

#if canImport(Glibc)
internal import Glibc
#elseif canImport(Musl)
internal import Musl
#else
internal import Darwin
#endif

/// A whole file mapped read-only. Unmapped when the last reference goes; deleting the file meanwhile is harmless.
///
/// Another process that cuts the file short turns a touch of the lost pages into SIGBUS. Images of a store are
/// never changed in place, so only a hand from outside can do that.
public final class MappedFile: @unchecked Sendable {
    /// Valid as long as this object.
    public let bytes: UnsafeRawBufferPointer
    public let path: String
    private let file: OpenFile

    /// The corresponding C function is `mmap`.
    public convenience init(_ path: String) throws(StoreError) {
        try self.init(throwingStoreErrors { try OpenFile(reading: path) })
    }

    /// Maps a file as long as it is now.
    init(_ file: OpenFile) throws(StoreError) {
        path = file.path
        let size = try throwingStoreErrors { Int(try file.status().size) }
        self.file = file
        guard size > 0 else {
            bytes = UnsafeRawBufferPointer(start: nil, count: 0)
            return
        }
        guard let base = mmap(nil, size, PROT_READ, MAP_SHARED, file.descriptor, 0), base != MAP_FAILED else {
            throw throwingMapError(path)
        }
        bytes = UnsafeRawBufferPointer(start: base, count: size)
    }

    /// Throws when the file is shorter than it was: touching the bytes it lost would be SIGBUS. A look at the size, so
    /// no promise; but a file that was cut before is always caught.
    func checkLength() throws {
        let size = try file.status().size
        guard size >= UInt64(bytes.count) else {
            throw StoreError(.incomplete, "\(path): byte \(size): the file was cut short while it was being read")
        }
    }

    /// Bytes that `read` has read.
    private let passed = Atomic<UInt64>(0)
    /// Fewer are not worth a look at their pages.
    private static let leastCopied = 256 << 10

    /// Fills `buffer` from `offset`. By a read of the file the first time, which costs less than the faults of a fresh map, and throws where a touch
    /// of one would be a signal. What is in a file that has been read through once is copied out of the map, past the caches, as long as the
    /// system has it in memory.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        if buffer.count >= MappedFile.leastCopied, passed.load(ordering: .relaxed) >= UInt64(bytes.count),
            offset <= UInt64(bytes.count), UInt64(buffer.count) <= UInt64(bytes.count) - offset
        {
            let start = bytes.baseAddress! + Int(offset)
            if ck_is_resident(start, buffer.count) != 0 {
                ck_copy_streaming(buffer.baseAddress, start, buffer.count)
                return
            }
        }
        try file.read(at: offset, into: buffer)
        passed.add(UInt64(buffer.count), ordering: .relaxed)
    }

    deinit {
        if let base = bytes.baseAddress { munmap(UnsafeMutableRawPointer(mutating: base), bytes.count) }
    }
}

private func throwingMapError(_ path: String) -> StoreError { FileSystem.failure("mmap", path) }

/// Maps in use, so that the views of one file share one map. The last few are kept open.
final class MappedFileCache: Sendable {
    private static let capacity = 16
    private let maps = Locked<[(path: String, map: MappedFile)]>([])

    func map(_ path: String) throws -> MappedFile {
        if let known = maps.withLock({ $0.first { $0.path == path }?.map }) { return known }
        let map = try MappedFile(path)
        maps.withLock { maps in
            if maps.count >= MappedFileCache.capacity { maps.removeFirst() }
            maps.append((path, map))
        }
        return map
    }
}
