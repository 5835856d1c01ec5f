internal import CheckpointStore
internal import TensorFormats

/// A matrix of a checkpoint, (rows, columns), left where it is: mapped, or block by block.
struct Weight: Sendable {
    let entry: TensorEntry
    let rows: Int
    let columns: Int

    var elementBytes: Int { entry.dtype.bits / 8 }
    var rowBytes: Int { columns * elementBytes }
}
