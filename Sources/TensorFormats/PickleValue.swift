/// What a pickle machine leaves where Python would have objects.
///
/// Containers, tensors and storages are indexes into a `PickleHeap`: values may be shared and may contain
/// themselves, and neither costs a reference cycle or a deep destructor here.
enum PickleValue: Equatable {
    case none
    case bool(Bool)
    case int(Int64)
    /// An integer over 64 bits, whose value is not kept.
    case bigInteger
    case float(Double)
    case string(String)
    /// Bytes, whose contents are not kept.
    case bytes
    case list(Int)
    case tuple(Int)
    /// The container holds keys and values in turn.
    case dict(Int)
    case set(Int)
    /// A class or function that the pickle names, as an index into `globals`; never looked up.
    case global(Int)
    case storage(Int)
    case tensor(Int)
    /// What calling a global that is not on the allow-list would have made.
    case opaque(global: Int)
}

/// A storage that the pickle's persistent ids name.
struct PickleStorage: Equatable {
    /// The entry `data/<key>` of the archive.
    var key: String
    /// Of the elements; `u8` where untyped.
    var dtype: DType
    var isUntyped: Bool
    /// Bytes the pickle promises.
    var byteCount: UInt64
    /// Bytes from the start of the file to the instruction that named it first.
    var position: UInt64
}

/// A view of a storage as the pickle states it: not yet checked against the storage.
struct PickleTensor: Equatable {
    /// Index into `storages`.
    var storage: Int
    var dtype: DType
    /// In elements of `dtype` from the start of the storage, as the strides.
    var offset: Int64
    var shape: [Int64]
    var strides: [Int64]
    /// Bytes from the start of the file to the instruction that made it.
    var position: UInt64
}

/// Everything a pickle made, flat.
struct PickleHeap {
    var containers: [[PickleValue]] = []
    var storages: [PickleStorage] = []
    var tensors: [PickleTensor] = []
    var globals: [PickleGlobal] = []
    /// Globals that were called and are not on the allow-list, as indexes.
    var skipped: Set<Int> = []

    private var indexOfGlobal: [ExactName: Int] = [:]
    private var indexOfStorage: [ExactName: Int] = [:]
    private var values = 0

    /// Containers, container elements and numbers of tensors that one pickle may make: what some 250,000 tensors
    /// take. At up to 64 bytes each it bounds the memory to half a gigabyte.
    static let maximumValues = 8 << 20

    /// Takes `count` values from the budget; false when it is used up.
    mutating func take(_ count: Int) -> Bool {
        guard count <= PickleHeap.maximumValues - values else { return false }
        values += count
        return true
    }

    /// The index of the global called `name`.
    mutating func intern(_ name: String) -> Int {
        if let index = indexOfGlobal[ExactName(name)] { return index }
        indexOfGlobal[ExactName(name)] = globals.count
        globals.append(PickleGlobal(name: name))
        return globals.count - 1
    }

    /// The index of the storage of that key, which every mention must describe alike; nil when one does not.
    mutating func intern(_ storage: PickleStorage) -> Int? {
        if let index = indexOfStorage[ExactName(storage.key)] {
            let known = storages[index]
            return known.dtype == storage.dtype && known.byteCount == storage.byteCount ? index : nil
        }
        indexOfStorage[ExactName(storage.key)] = storages.count
        storages.append(storage)
        return storages.count - 1
    }
}
