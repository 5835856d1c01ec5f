/// A file that is written from its beginning to its end under another name, and has its own only when all of it is on disk.
public final class DurableFile {
    private let path: String
    private let temporary: String
    private let file: OpenFile
    private var buffer: [UInt8] = []
    private var written: UInt64 = 0
    private var isDone = false

    private static let bufferBytes = 1 << 20

    /// - Throws: `.failed`, `.diskFull` naming the path.
    public init(_ path: String) throws(StoreError) {
        self.path = path
        temporary = path + ".part"
        let temporary = temporary
        do throws(StoreError) {
            file = try throwingStoreErrors {
                try FileSystem.removeFile(temporary)
                return try OpenFile(creating: temporary)
            }
        } catch {
            // Nobody asked for the other name.
            throw StoreError(error.code, error.reason.replacing(temporary, with: path), hint: error.hint)
        }
        buffer.reserveCapacity(DurableFile.bufferBytes)
    }

    deinit {
        if !isDone { try? FileSystem.removeFile(temporary) }
    }

    /// Adds bytes at the end.
    public func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        if buffer.count + bytes.count > DurableFile.bufferBytes { try flush() }
        guard bytes.count < DurableFile.bufferBytes else { return try write(bytes) }
        buffer.append(contentsOf: bytes)
    }

    /// Adds bytes at the end.
    public func append(_ bytes: [UInt8]) throws(StoreError) {
        try throwingStoreErrors { try bytes.withUnsafeBytes { try append($0) } }
    }

    /// A whole file of `bytes`.
    public static func write(_ bytes: [UInt8], to path: String) throws(StoreError) {
        let file = try DurableFile(path)
        try file.append(bytes)
        try file.finish()
    }

    /// Makes it durable and gives it its name.
    public func finish() throws(StoreError) {
        try flush()
        try throwingStoreErrors {
            try file.sync()
            try FileSystem.rename(temporary, to: path)
            try FileSystem.syncDirectory(FileSystem.parent(path) ?? ".")
        }
        isDone = true
    }

    private func flush() throws(StoreError) {
        let bytes = buffer
        buffer.removeAll(keepingCapacity: true)
        try throwingStoreErrors { try bytes.withUnsafeBytes { try file.write($0, at: written) } }
        written += UInt64(bytes.count)
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        try throwingStoreErrors { try file.write(bytes, at: written) }
        written += UInt64(bytes.count)
    }
}
