internal import CKernels

/// Writes a snapshot's image under a temporary name in `images/`, as its blocks pass by.
///
/// Where the file system shares blocks between files, a file is cloned at once instead of copied.
final class ImageWriter {
    static let temporaryPrefix = ".tmp-"

    private let store: String
    private let temporary: String
    private var paths: [String] = []
    private var isPlaced = false

    init(store: String) throws {
        self.store = store
        temporary = "\(store)/images/\(ImageWriter.temporaryPrefix)\(Hex.string(Pending.newKey()))"
        try FileSystem.makeDirectory(temporary)
    }

    deinit {
        if !isPlaced { try? FileSystem.removeTree(temporary) }
    }

    /// Makes the image's file for `source`.
    ///
    /// - Returns: the file to copy the blocks into, or nil when it was cloned.
    func add(_ source: SourceFile, from file: OpenSource) throws -> OpenFile? {
        let target = try create(source.path, size: source.status.size, clones: file.descriptor)
        return target.isCloned ? nil : target.file
    }

    /// Makes the image's file `path` of `size` bytes.
    func create(_ path: String, size: UInt64) throws -> OpenFile {
        try create(path, size: size, clones: nil).file
    }

    private func create(_ path: String, size: UInt64, clones original: Int32?) throws -> (file: OpenFile, isCloned: Bool) {
        let location = temporary + "/" + path
        if let parent = FileSystem.parent(location) { try FileSystem.makeDirectories(parent) }
        let file = try OpenFile(creating: location)
        paths.append(location)
        if let original, ck_clone_file(file.descriptor, original) == 0 { return (file, true) }
        try file.resize(to: size)
        return (file, false)
    }

    /// Makes the image's file `path` the same file as that of another image; false where the file system cannot.
    func link(_ path: String, from image: String) throws -> Bool {
        let location = temporary + "/" + path
        if let parent = FileSystem.parent(location) { try FileSystem.makeDirectories(parent) }
        return FileSystem.link(image + "/" + path, as: location)
    }

    func makeDirectory(_ path: String) throws {
        try FileSystem.makeDirectories(temporary + "/" + path)
    }

    /// Makes the image's bytes durable, and its files read-only.
    func finish() throws {
        // Opened again one by one: a checkpoint can have more files than a process may keep open.
        for path in paths {
            let file = try OpenFile(reading: path)
            try file.makeReadOnly()
            try file.sync()
        }
    }

    /// Gives the image its name. Returns its directory.
    func place(as id: ContentID) throws -> String {
        let target = ImageWriter.path(store, id)
        if FileSystem.status(target) != nil { try FileSystem.removeTree(target) }
        try FileSystem.rename(temporary, to: target)
        isPlaced = true
        try FileSystem.syncDirectory(store + "/images")
        return target
    }

    /// Where the image of `id` is, if there is one.
    static func path(_ store: String, _ id: ContentID) -> String { "\(store)/images/\(id)" }
}
