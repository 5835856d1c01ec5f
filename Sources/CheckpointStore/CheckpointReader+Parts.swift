internal import TensorFormats

extension CheckpointReader {
    /// The parts of the snapshot that it becomes.
    ///
    /// - Parameter tensorIDs: of `tensors`, in their order.
    func parts(_ tensorIDs: [ContentID]) -> [PartManifest] {
        PartKind.allCases.compactMap { kind in
            let files = self.files.filter { $0.source.part == kind }.map { manifest($0, tensorIDs) }
            return files.isEmpty ? nil : PartManifest(kind: kind, files: files)
        }
    }

    private func manifest(_ file: ParsedFile, _ tensorIDs: [ContentID]) -> PartManifest.File {
        let layout = file.layout
        return PartManifest.File(
            path: file.source.path, format: layout.format, isDirectory: file.source.isDirectory, size: layout.size,
            skeleton: file.skeletonTensor.map { tensorIDs[$0] },
            storages: zip(layout.storages, file.storageTensors).map { storage, tensor in
                PartManifest.Storage(offset: storage.offset, length: storage.length, tensor: tensorIDs[tensor])
            },
            tensors: layout.tensors.map { tensor in
                PartManifest.Tensor(
                    name: tensor.name, storage: tensor.storage, offset: tensor.offset, dtype: tensor.dtype,
                    shape: tensor.shape, strides: tensor.strides)
            })
    }
}
