import Foundation

/// Bytes that end where a page begins that may not be touched: reading or writing past them is a crash.
public final class GuardedBytes {
    public let bytes: UnsafeMutableRawBufferPointer
    private let map: UnsafeMutableRawPointer
    private let length: Int

    public init(count: Int) {
        let page = Int(sysconf(Int32(_SC_PAGESIZE)))
        let body = (count + page - 1) / page * page
        length = body + page
        map = mmap(nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
        precondition(map != MAP_FAILED && mprotect(map + body, page, PROT_NONE) == 0)
        bytes = UnsafeMutableRawBufferPointer(start: map + body - count, count: count)
    }

    public convenience init(_ content: [UInt8]) {
        self.init(count: content.count)
        content.withUnsafeBytes { bytes.copyMemory(from: $0) }
    }

    deinit { munmap(map, length) }

    /// Quick also where loops are not optimised.
    public func holds(_ content: [UInt8]) -> Bool {
        content.count == bytes.count && (content.isEmpty || memcmp(bytes.baseAddress!, content, content.count) == 0)
    }

    /// Valid while this object lives.
    public var readable: UnsafeRawBufferPointer { UnsafeRawBufferPointer(bytes) }
}
