import CheckpointReports
import CheckpointStore
public import CkptABI
import LanguageModel
import TensorFormats

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

@c @implementation public func ckpt_entropies_put(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ probe: UnsafePointer<CChar>?, _ settings: UnsafePointer<CChar>?,
    _ provenance: UnsafePointer<CChar>?, _ outputs: UnsafePointer<ckpt_outputs>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let store = try StoreHandle.find(store)
        guard let outputs else { throw CallError(.badArgument, "outputs is NULL") }
        let given = try Argument.options(outputs, ckpt_outputs(), "outputs")
        let (columns, samples) = try Columns(given).samples()
        let file = EntropyFile(
            provenance: try texts(provenance, "provenance"), settings: try texts(settings, "settings"), columns: columns, outputs: samples)
        let ref = try Argument.text(ref, "ref")
        let record = try store.importRecord(file, of: ref, on: Argument.text(probe, "probe"), name: "outputs")
        if let json { try give(record.json(ref: ref), json) }
    }
}

@c @implementation public func ckpt_entropies_get(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ probe: UnsafePointer<CChar>?, _ settings: UnsafePointer<CChar>?,
    _ outputs: UnsafeMutablePointer<ckpt_outputs>?
) -> ckpt_status {
    call {
        let out = try Argument.out(outputs, "outputs")
        try Argument.size(out.pointee.struct_size, of: MemoryLayout<ckpt_outputs>.size, "outputs")
        let store = try StoreHandle.find(store)
        let (ref, name) = (try Argument.text(ref, "ref"), try Argument.text(probe, "probe"))
        let snapshot = try store.snapshot(ref).id
        let (id, _, samples) = try store.probe(name)
        let settings = try RecordSettings.canonical(texts(settings, "settings"), on: samples) { text throws(StoreError) in try store.snapshot(text).id }
        let key = EntropyKey(snapshot: snapshot, probe: id, settings: settings)
        guard let record = try store.entropyRecord(key) else {
            throw StoreError(.noSuchRef, "\(ref): no entropy record on probe \(name) under these settings", hint: "ckpt entropy \(ref) --probe \(name)")
        }
        out.pointee = try Columns.make(record, try store.outputs(of: key), size: out.pointee.struct_size)
    }
}

@c @implementation public func ckpt_outputs_free(_ outputs: UnsafeMutablePointer<ckpt_outputs>?) {
    guard let outputs, outputs.pointee.struct_size == MemoryLayout<ckpt_outputs>.size else { return }
    let given = outputs.pointee
    let all: [UnsafeRawPointer?] = [
        .init(given.samples), .init(given.starts), .init(given.entropy), .init(given.nll), .init(given.top1), .init(given.kl_strong_weak),
        .init(given.kl_weak_strong), .init(given.ln_c), .init(given.hard_negatives),
    ]
    for pointer in all { free(UnsafeMutableRawPointer(mutating: pointer)) }
    outputs.pointee = ckpt_outputs()
    outputs.pointee.struct_size = given.struct_size
}

@c @implementation public func ckpt_entropies_list(
    _ store: OpaquePointer?, _ ref: UnsafePointer<CChar>?, _ probe: UnsafePointer<CChar>?, _ json: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
) -> ckpt_status {
    call {
        let out = try Argument.out(json, "json")
        let store = try StoreHandle.find(store)
        let snapshot = try Argument.optionalText(ref, "ref").map { try store.snapshot($0).id }
        let probe = try Argument.optionalText(probe, "probe").map { try store.probe($0).id }
        let refs = Dictionary(try store.history().map { ($0.id, "\($0.run)@\($0.step)") }) { first, _ in first }
        let records = try store.entropyRecords(snapshot: snapshot, probe: probe)
        try give(.array(records.map { $0.json(ref: refs[$0.key.snapshot]) }), out)
    }
}

/// A JSON object of texts; NULL is an empty one.
private func texts(_ pointer: UnsafePointer<CChar>?, _ name: String) throws -> [String: String] {
    guard let text = try Argument.optionalText(pointer, name) else { return [:] }
    let value = try JSONValue.parse(Array(text.utf8), path: name)
    guard let members = value.members else { throw StoreError(.badInput, "\(name): no JSON object") }
    var texts: [String: String] = [:]
    for member in members {
        guard let value = member.value.string else { throw StoreError(.badInput, "\(name): \(member.key) is no text") }
        texts[member.key] = value
    }
    return texts
}

/// `ckpt_outputs` as columns.
private struct Columns {
    let given: ckpt_outputs

    init(_ given: ckpt_outputs) { self.given = given }

    private func floats(_ column: EntropyColumn) -> UnsafePointer<Float>? {
        switch column {
        case .entropy: given.entropy
        case .nll: given.nll
        case .klStrongWeak: given.kl_strong_weak
        case .klWeakStrong: given.kl_weak_strong
        case .lnC: given.ln_c
        case .hardNegatives: given.hard_negatives
        case .top1: nil
        }
    }

    /// The columns that are there, and each sample's figures.
    ///
    /// - Throws: `.badArgument` for starts that do not ascend from 0 to the number of tokens.
    func samples() throws(CallError) -> (columns: [EntropyColumn], samples: [SampleOutputs]) {
        let columns = EntropyColumn.allCases.filter { $0 == .top1 ? given.top1 != nil : floats($0) != nil }
        let count = given.sample_count
        guard count >= 0, count < Int.max else { throw CallError(.badArgument, "outputs: more samples than there can be") }
        let places = try Argument.items(given.samples, count, "outputs.samples")
        let starts = try Argument.items(given.starts, count + 1, "outputs.starts")
        guard starts[0] == 0, starts[count] == UInt64(exactly: given.token_count), zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 }) else {
            throw CallError(.badArgument, "outputs.starts do not ascend from 0 to token_count")
        }
        for column in columns {
            if column == .top1 { _ = try Argument.items(given.top1, given.token_count, "outputs.top1") }
            else { _ = try Argument.items(floats(column), given.token_count, "outputs.\(column.name)") }
        }
        var samples: [SampleOutputs] = []
        for index in 0..<count {
            guard let place = Int(exactly: places[index]) else { throw CallError(.badArgument, "outputs: sample \(places[index])") }
            let range = Int(starts[index])..<Int(starts[index + 1])
            let values = columns.filter { $0 != .top1 }.map { column in
                Array(UnsafeBufferPointer(start: floats(column)! + range.lowerBound, count: range.count))
            }
            let top1 = given.top1.map { Array(UnsafeBufferPointer(start: $0 + range.lowerBound, count: range.count)) } ?? []
            samples.append(SampleOutputs(sample: place, values: values, top1: top1))
        }
        return (columns, samples)
    }

    /// A record's outputs, in memory that is the caller's.
    static func make(_ record: EntropyRecord, _ outputs: [SampleOutputs], size: Int) throws -> ckpt_outputs {
        var made = ckpt_outputs()
        made.struct_size = size
        made.sample_count = outputs.count
        made.token_count = outputs.reduce(0) { $0 + $1.count }
        var starts: [UInt64] = [0]
        for output in outputs { starts.append(starts.last! + UInt64(output.count)) }
        made.samples = try copy(outputs.map { UInt64($0.sample) })
        made.starts = try copy(starts)
        for (index, column) in record.columns.filter({ $0 != .top1 }).enumerated() {
            let values = try copy(outputs.flatMap { $0.values[index] })
            switch column {
            case .entropy: made.entropy = values
            case .nll: made.nll = values
            case .klStrongWeak: made.kl_strong_weak = values
            case .klWeakStrong: made.kl_weak_strong = values
            case .lnC: made.ln_c = values
            case .hardNegatives: made.hard_negatives = values
            case .top1: break
            }
        }
        if record.columns.contains(.top1) { made.top1 = try copy(outputs.flatMap(\.top1)) }
        return made
    }

    private static func copy<Value: BitwiseCopyable>(_ values: [Value]) throws -> UnsafePointer<Value> {
        guard let room = malloc(max(1, values.count * MemoryLayout<Value>.stride)) else { throw StoreError(.failed, "out of memory") }
        let copy = room.bindMemory(to: Value.self, capacity: values.count)
        copy.initialize(from: values, count: values.count)
        return UnsafePointer(copy)
    }
}
