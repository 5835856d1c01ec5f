package import CheckpointStore

extension StoreStats {
    package static func name(ofCodec codec: UInt8) -> String {
        switch codec {
        case 0: "raw"
        case 1: "dense"
        case 2: "delta"
        case 3: "palette"
        case 255: "quarantined"
        default: "codec \(codec)"
        }
    }

    /// As `ckpt stats --json` has it.
    package var json: JSONOutput {
        [
            "snapshots": .int(snapshots), "runs": .int(runs), "raw_bytes": .unsigned(rawBytes),
            "unique_bytes": .unsigned(uniqueBytes), "packed_bytes": .unsigned(packedBytes),
            "image_bytes": .unsigned(imageBytes), "store_bytes": .unsigned(storeBytes), "training_bytes": .unsigned(trainingBytes),
            "blocks": .int(blocks), "tensors": .int(tensors),
            "codecs": .array(
                codecs.sorted { $0.key < $1.key }.map { codec, share in
                    [
                        "codec": .string(StoreStats.name(ofCodec: codec)), "blocks": .int(share.blocks),
                        "raw_bytes": .unsigned(share.rawBytes), "packed_bytes": .unsigned(share.packedBytes),
                    ]
                }),
            "by_run": .array(byRun.map(\.json)),
            "hidden_blocks": .int(hiddenBlocks), "hidden_bytes": .unsigned(hiddenBytes),
            "probes": .int(probes), "probe_bytes": .unsigned(probeBytes),
            "entropy_records": .int(entropyRecords), "entropy_bytes": .unsigned(entropyBytes),
        ]
    }
}

extension RunStats {
    var json: JSONOutput {
        [
            "run": .string(run), "snapshots": .int(snapshots), "raw_bytes": .unsigned(rawBytes),
            "packed_bytes": .unsigned(packedBytes), "shared_bytes": .unsigned(sharedBytes),
            "image_bytes": .unsigned(imageBytes),
        ]
    }
}
