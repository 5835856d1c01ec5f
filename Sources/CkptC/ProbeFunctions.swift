import CheckpointReports
import CheckpointStore
public import CkptABI

@c @implementation public func ckpt_probe_add(
    _ store: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ samples: UnsafePointer<ckpt_sample>?, _ count: Int,
    _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let store = try StoreHandle.find(store)
        let name = try Argument.text(name, "name")
        let probe = try Probe(samples: Argument.items(samples, count, "samples").map { try ProbeSample($0) })
        let id = try store.addProbe(probe, name: name)
        guard let added = try store.probes().first(where: { $0.id == id && $0.name == name }) else {
            throw StoreError(.conflict, "\(name): removed meanwhile")
        }
        try give(added.json, out)
    }
}

@c @implementation public func ckpt_probe_list(
    _ store: OpaquePointer?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        try give(.array(StoreHandle.find(store).probes().map(\.json)), out)
    }
}

@c @implementation public func ckpt_probe_samples(
    _ store: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        try give(.array(StoreHandle.find(store).probe(Argument.text(name, "name")).probe.samples.map(\.json)), out)
    }
}

@c @implementation public func ckpt_probe_remove(_ store: OpaquePointer?, _ name: UnsafePointer<CChar>?) -> ckpt_status {
    call { try StoreHandle.find(store).removeProbe(Argument.text(name, "name")) }
}

extension ProbeSample {
    fileprivate init(_ sample: ckpt_sample) throws {
        let id = try Argument.text(sample.id, "sample.id")
        let tokens = try Array(Argument.items(sample.tokens, sample.token_count, "\(id): tokens"))
        guard (0...Int.max / 2).contains(sample.range_count) else { throw CallError(.badArgument, "\(id): \(UInt(bitPattern: sample.range_count)) ranges are more than there can be") }
        let ends = try Argument.items(sample.supervised, 2 * sample.range_count, "\(id): supervised")
        let ranges = try stride(from: 0, to: ends.count, by: 2).map { place -> Range<Int> in
            guard ends[place] < ends[place + 1] else {
                throw StoreError(.badInput, "sample \(id): supervised from \(ends[place]) to \(ends[place + 1])", hint: "ranges are of one token at least")
            }
            return Int(ends[place])..<Int(ends[place + 1])
        }
        self.init(id: id, tokens: tokens, supervised: ranges)
    }
}
