/// Builds zip archives byte by byte, the wrong ones too.
struct ArchiveBuilder {
    struct Entry {
        var name: String
        var data: [UInt8] = []
        var method: UInt16 = 0
        var flags: UInt16 = 0
        /// What the directory says, where it is not the truth.
        var statedSize: UInt32?
        var statedPlainSize: UInt32?
        var statedOffset: UInt32?
        var localName: String?
        var localMethod: UInt16?
        var localSize: UInt32?
    }

    var entries: [Entry]
    var statedCount: UInt16?
    var statedDirectoryOffset: UInt32?
    var comment: [UInt8] = []

    init(_ entries: [Entry]) {
        self.entries = entries
    }

    func build() -> [UInt8] {
        var bytes: [UInt8] = []
        var directory: [UInt8] = []
        for entry in entries {
            let offset = UInt32(bytes.count)
            let localName = Array((entry.localName ?? entry.name).utf8)
            let size = UInt32(entry.data.count)
            bytes +=
                le(0x0403_4b50 as UInt32) + le(20 as UInt16) + le(entry.flags) + le(entry.localMethod ?? entry.method)
            bytes += le(0 as UInt32) + le(0 as UInt32) + le(entry.localSize ?? size) + le(entry.localSize ?? size)
            bytes += le(UInt16(localName.count)) + le(0 as UInt16) + localName + entry.data
            directory += le(0x0201_4b50 as UInt32) + le(20 as UInt16) + le(20 as UInt16) + le(entry.flags)
            directory += le(entry.method) + le(0 as UInt32) + le(0 as UInt32) + le(entry.statedSize ?? size)
            directory += le(entry.statedPlainSize ?? entry.statedSize ?? size) + le(UInt16(entry.name.utf8.count))
            directory += le(0 as UInt16) + le(0 as UInt16) + le(0 as UInt16) + le(0 as UInt16) + le(0 as UInt32)
            directory += le(entry.statedOffset ?? offset) + Array(entry.name.utf8)
        }
        let start = UInt32(bytes.count)
        let count = statedCount ?? UInt16(entries.count)
        bytes += directory
        bytes += le(0x0605_4b50 as UInt32) + le(0 as UInt32) + le(count) + le(count) + le(UInt32(directory.count))
        bytes += le(statedDirectoryOffset ?? start) + le(UInt16(comment.count)) + comment
        return bytes
    }
}

func le<Value: FixedWidthInteger>(_ value: Value) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian, Array.init)
}
