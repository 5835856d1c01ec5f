internal import BlockCodec

/// The blocks that were decoded last: one packed against any of them takes one step instead of a whole chain. For one thread.
///
/// This is how two snapshots of a history are read side by side for little more than the price of one: the block of one is among what the
/// other's is packed against.
package final class RecentBlocks {
    private struct Entry {
        var bytes: UnsafeMutableRawBufferPointer
        var count: Int
        var lastUse: UInt64
    }

    /// More than two snapshots' chains of the usual depth.
    private static let capacity = 16
    private var entries: [ContentID: Entry] = [:]
    private var uses: UInt64 = 0
    /// What each reader was handed out last.
    private var handedOut: [ObjectIdentifier: ContentID] = [:]

    /// Blocks that are remembered.
    var count: Int { entries.count }

    package init() {}

    deinit {
        for entry in entries.values { entry.bytes.deallocate() }
    }

    /// The raw bytes of a block that is remembered.
    func bytes(_ id: ContentID, count: Int) -> UnsafeRawBufferPointer? {
        guard let entry = entries[id], entry.count == count else { return nil }
        uses += 1
        entries[id]!.lastUse = uses
        return UnsafeRawBufferPointer(rebasing: entry.bytes[..<count])
    }

    /// The reader reads block `id` until its next call.
    func handOut(_ id: ContentID, to reader: BlockReader) { handedOut[ObjectIdentifier(reader)] = id }

    /// Decodes block `id`, which is not remembered, by `decode` and remembers it.
    ///
    /// - Parameter keeping: blocks that `decode` needs.
    func add(
        _ id: ContentID, count: Int, keeping: [BaseBlock], _ decode: (UnsafeMutableRawBufferPointer) throws(CodecError) -> Void
    ) throws(CodecError) -> UnsafeRawBufferPointer {
        // One of another length under the same id: there is none but in a damaged store, and readers may still look at the other.
        guard entries[id] == nil else { throw CodecError(.malformed, "has two lengths") }
        let room = take(keeping)
        let target = UnsafeMutableRawBufferPointer(rebasing: room[..<count])
        do throws(CodecError) {
            try decode(target)
        } catch {
            room.deallocate()
            throw error
        }
        uses += 1
        entries[id] = Entry(bytes: room, count: count, lastUse: uses)
        return UnsafeRawBufferPointer(target)
    }

    /// Room for a block: new, or that of the one not used for longest.
    private func take(_ keeping: [BaseBlock]) -> UnsafeMutableRawBufferPointer {
        if entries.count >= RecentBlocks.capacity {
            let kept = Set(keeping.map { $0.id.withUnsafeBytes { ContentID($0) } } + handedOut.values)
            let oldest = entries.filter { !kept.contains($0.key) }.min { $0.value.lastUse < $1.value.lastUse }
            if let oldest {
                entries[oldest.key] = nil
                return oldest.value.bytes
            }
        }
        return .allocate(byteCount: BlockCoder.maximumBlockBytes, alignment: 64)
    }
}
