internal import Synchronization

/// A file that may still hold bytes of an ancestor: an image's, or the checkpoint's that was ingested. Nothing it holds is
/// believed before its hash is right.
final class CopyFile: Sendable {
    private let file: OpenFile
    /// Set once bytes were not what they should be: the file was written to since.
    private let isStale = Atomic<Bool>(false)

    /// Nil when there is no regular file at `path`.
    init?(_ path: String) {
        guard FileSystem.status(path)?.isRegular == true, let file = try? OpenFile(reading: path) else { return nil }
        self.file = file
    }

    /// Fills `buffer` with bytes `ranges`; false when that cannot be.
    func read(_ ranges: [Range<UInt64>], into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        guard !isStale.load(ordering: .relaxed), ranges.reduce(0, { $0 + $1.count }) == buffer.count else { return false }
        return (try? file.read(ranges, into: buffer)) != nil
    }

    func markStale() { isStale.store(true, ordering: .relaxed) }
}

/// Where a block's bytes may be found without decoding it.
struct BlockCopy {
    var file: CopyFile
    var ranges: [Range<UInt64>]
}
