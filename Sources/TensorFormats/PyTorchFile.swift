/// Reads the zip files that `torch.save` has written since PyTorch 1.6, without executing their pickle.
///
/// `<root>/data.pkl` says what there is, `<root>/data/<key>` holds the bytes of each storage, uncompressed. Python
/// objects of unknown classes are passed over and their names listed in `skipped`; so are tensors that are not
/// plain views of a storage: sparse, quantised, nested, conjugated, or of a dtype without a name here.
/// Little-endian files only, and not the pickles that PyTorch wrote before 1.6.
public enum PyTorchFile {
    /// Bytes that `data.pkl` may have.
    public static let maximumPickleSize: UInt64 = 256 << 20

    private static let zipSignature: [UInt8] = [0x50, 0x4b, 0x03, 0x04]

    /// Where the tensors of a file are. Only the zip's directory, its local headers and the pickle are read.
    ///
    /// Storages that the pickle names become storages, used by tensors or not; every other byte is skeleton.
    /// Tensors inside dictionaries, lists, tuples and sets are named by the keys and indexes on the way:
    /// `state.0.exp_avg`.
    ///
    /// - Throws: `.unsupported` when this is no PyTorch zip; `.truncated` when it starts like one and its end is
    ///   missing; `.malformed`, `.unsafeName`, `.limit`, `.io`. Errors of tensors name them.
    /// - Complexity: O(n log n) in the zip's entries and the bytes of the pickle.
    public static func read(_ source: some ByteSource) throws(FormatError) -> TensorFile {
        let path = source.path
        try checkSignature(source)
        let directory = try ZipDirectory.read(source)
        guard let root = directory.firstName?.split(separator: "/").first,
            let entry = directory["\(root)/data.pkl"]
        else {
            throw FormatError(.unsupported, path: path, "a zip archive without a data.pkl is not a PyTorch file")
        }
        try checkByteOrder(source, directory["\(root)/byteorder"])
        guard entry.isStored else { throw FormatError(.unsupported, path: path, "data.pkl is compressed") }
        guard entry.size <= maximumPickleSize else {
            throw FormatError(
                .limit, path: path, byte: entry.offset,
                "data.pkl has \(entry.size) bytes, over the limit of \(maximumPickleSize)")
        }
        let pickle = try source.bytes(at: entry.offset, count: Int(entry.size))
        var reader = PickleReader(pickle, path: path, origin: entry.offset)
        let value = try reader.run()
        var flattener = PickleFlattener(reader.heap, path: path)
        let found = try flattener.flatten(value)

        var layout = PyTorchLayout(path: path)
        try layout.place(reader.heap.storages, in: directory, root: String(root))
        for named in found { try layout.add(reader.heap.tensors[named.tensor], name: named.name) }
        return layout.file(
            size: source.count, skipped: reader.heap.skipped.map { ExactName(reader.heap.globals[$0].name) })
    }

    /// A zip that was cut even before its fourth byte counts as truncated.
    private static func checkSignature(_ source: some ByteSource) throws(FormatError) {
        let start = try source.bytes(at: 0, count: Int(min(source.count, 4)))
        guard zipSignature.starts(with: start) else {
            throw FormatError(
                .unsupported, path: source.path, byte: 0, "not a PyTorch zip; legacy pickle or another format")
        }
        guard start.count == 4 else {
            throw FormatError(
                .truncated, path: source.path, byte: source.count, "the file ends after \(start.count) bytes")
        }
    }

    /// Files from before the entry existed are little-endian.
    private static func checkByteOrder(_ source: some ByteSource, _ entry: ZipDirectory.Entry?) throws(FormatError) {
        guard let entry else { return }
        guard entry.isStored, entry.size == 6,
            try source.bytes(at: entry.offset, count: 6).elementsEqual("little".utf8)
        else {
            throw FormatError(
                .unsupported, path: source.path, byte: entry.offset, "the byte order of the file is not \"little\"")
        }
    }
}
