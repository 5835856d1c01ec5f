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
        guard !isStale.load(ordering: .relaxed) else { return false }
        var filled = 0
        for range in ranges {
            let piece = UnsafeMutableRawBufferPointer(rebasing: buffer[filled..<(filled + range.count)])
            guard (try? file.read(at: range.lowerBound, into: piece)) != nil else { return false }
            filled += range.count
        }
        return filled == buffer.count
    }

    func markStale() { isStale.store(true, ordering: .relaxed) }
}

/// Where a block's bytes may be found without decoding it.
struct BlockCopy {
    var file: CopyFile
    var ranges: [Range<UInt64>]
}
