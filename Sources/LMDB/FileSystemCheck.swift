internal import CLMDB

/// Refuses the file systems on which LMDB's shared map and locks do not hold.
///
/// LMDB needs one page cache that every process shares and locks that die with their process. Network and
/// user-space file systems promise neither: data files there have been lost.
public enum FileSystemCheck {
    /// The name of the unfit file system that `path` lies on, or nil when it is fit or unknown.
    ///
    /// The corresponding C function is `statfs`.
    public static func unfitFileSystem(at path: String) -> String? {
        let type = clmdb_file_system_type(path)
        #if os(Linux)
        return unfitNames[type]
        #else
        return type == 1 ? "a network file system" : nil
        #endif
    }

    #if os(Linux)
    /// `f_type` values of `linux/magic.h`.
    private static let unfitNames: [Int64: String] = [
        0x6969: "NFS",
        0xFF53_4D42: "CIFS",
        0xFE53_4D42: "SMB",
        0x517B: "SMB",
        0x0BD0_0BD0: "Lustre",
        0x4750_4653: "GPFS",
        0x6573_5546: "FUSE",
        0x0102_1997: "9p",
        0x00C3_6400: "Ceph",
        0x5346_414F: "AFS",
    ]
    #endif
}
