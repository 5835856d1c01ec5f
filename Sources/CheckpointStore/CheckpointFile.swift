internal import TensorFormats

/// A file of a checkpoint that a program has at hand: in memory, or on disk under another name.
public struct CheckpointFile: Sendable {
    enum Bytes: Sendable {
        case memory(FileInMemory)
        case disk(location: String)
    }

    let path: String
    let bytes: Bytes

    /// A file whose bytes are `pieces` of memory, end to end. Nothing is copied: they must stay where they are, unchanged, until the
    /// ingest has returned.
    ///
    /// - Parameter path: its name in the checkpoint, with `/` between directories. The name tells how it is read, as on disk:
    ///   `.safetensors` files and PyTorch files are cut into tensors, `optimizer*` is optimizer state, what else there is is kept as it is.
    public init(_ path: String, pieces: [UnsafeRawBufferPointer]) {
        self.path = path
        bytes = .memory(FileInMemory(path, pieces))
    }

    /// The regular file at `location`, called `path` in the checkpoint.
    public init(_ path: String, at location: String) {
        self.path = path
        bytes = .disk(location: location)
    }

    /// - Throws: `.badInput` for a name that could leave its directory, and for what is no regular file.
    func source() throws -> SourceFile {
        do throws(FormatError) { try SafePath.check(path, in: "checkpoint") } catch { throw StoreError(.badInput, "\(error)") }
        let part = PartNaming.part(of: path, isSingleFile: false)
        switch bytes {
        case .memory(let file):
            return SourceFile(path: path, location: path, part: part, isDirectory: false, status: FileStatus(inMemory: file.count), memory: file)
        case .disk(let location):
            guard let absolute = FileSystem.absolute(location), let status = FileSystem.status(absolute), status.isRegular else {
                throw StoreError(.badInput, "\(location): no such regular file")
            }
            return SourceFile(path: path, location: absolute, part: part, isDirectory: false, status: status)
        }
    }
}

/// A file that is pieces of memory, end to end.
///
/// Sendable, as nobody writes to the pieces while it is used.
final class FileInMemory: ByteSource, @unchecked Sendable {
    let path: String
    let count: UInt64
    private let pieces: [UnsafeRawBufferPointer]
    /// Where each piece begins in the file.
    private let starts: [UInt64]

    init(_ path: String, _ pieces: [UnsafeRawBufferPointer]) {
        self.path = path
        self.pieces = pieces.filter { !$0.isEmpty }
        var end: UInt64 = 0
        starts = self.pieces.map { piece in
            defer { end += UInt64(piece.count) }
            return end
        }
        count = end
    }

    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(FormatError) {
        let (end, overflow) = offset.addingReportingOverflow(UInt64(buffer.count))
        guard !overflow, end <= count else {
            throw FormatError(.truncated, path: path, byte: min(offset, count), "the file ends at byte \(count)")
        }
        guard !buffer.isEmpty else { return }
        // The last piece that begins at or before the offset.
        var (low, high) = (0, starts.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= offset { low = middle } else { high = middle }
        }
        var done = 0
        while done < buffer.count {
            let start = Int(offset + UInt64(done) - starts[low])
            let taken = min(pieces[low].count - start, buffer.count - done)
            (buffer.baseAddress! + done).copyMemory(from: pieces[low].baseAddress! + start, byteCount: taken)
            done += taken
            low += 1
        }
    }
}

/// A file of a checkpoint, opened to be read.
final class OpenSource: Sendable {
    private enum Bytes {
        case file(OpenFile)
        case memory(FileInMemory)
    }

    private let bytes: Bytes

    init(_ source: SourceFile) throws {
        bytes = if let memory = source.memory { .memory(memory) } else { .file(try OpenFile(reading: source.location)) }
    }

    /// Fills `buffer` from `offset`.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws {
        switch bytes {
        case .file(let file): try file.read(at: offset, into: buffer)
        case .memory(let file): try file.read(at: offset, into: buffer)
        }
    }

    /// Fills `buffer` with the bytes of `ranges`, end to end; together they are as long.
    func read(_ ranges: [Range<UInt64>], into buffer: UnsafeMutableRawBufferPointer) throws {
        var filled = 0
        for range in ranges {
            try read(at: range.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<(filled + range.count)]))
            filled += range.count
        }
    }

    /// Of a file on disk.
    var descriptor: Int32? {
        if case .file(let file) = bytes { file.descriptor } else { nil }
    }
}

extension SourceFile {
    /// Whether it looks as it did when it was found.
    var isUnchanged: Bool { memory != nil || FileSystem.status(location) == status }

    /// All its bytes, of a small file.
    func contents() throws -> [UInt8] {
        if let memory { return try memory.bytes(at: 0, count: Int(memory.count)) }
        return try FileSystem.contents(location) ?? []
    }
}
