/// The canonical encoding of a probe: what its id is the hash of, and what is stored, cut into chunks.
extension Probe {
    private static let magic = Array("ckptprb1".utf8)

    var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.put(raw: Probe.magic)
        writer.put(UInt8(tokenizer == nil ? 0 : 1))
        if let tokenizer { writer.put(tokenizer) }
        writer.put(UInt32(samples.count))
        for sample in samples {
            writer.put(sample.id)
            writer.put(UInt32(sample.tokens.count))
            for token in sample.tokens { writer.put(token) }
            writer.put(UInt32(sample.supervised.count))
            for range in sample.supervised {
                writer.put(UInt32(range.lowerBound))
                writer.put(UInt32(range.upperBound))
            }
            for text in [sample.prompt, sample.completion] {
                writer.put(UInt8(text == nil ? 0 : 1))
                if let text { writer.put(text) }
            }
        }
        writer.put(UInt32(pieces.count))
        for (token, bytes) in pieces.sorted(by: { $0.key < $1.key }) {
            writer.put(token)
            writer.put(UInt32(bytes.count))
            writer.put(raw: bytes)
        }
        return writer.bytes
    }

    /// - Throws: `.damaged` when `bytes` are not the canonical encoding of a probe.
    init(_ bytes: [UInt8], what: String) throws {
        var reader = ByteReader(bytes, what)
        guard try reader.takeBytes(8) == Probe.magic else { throw reader.damage("not a probe") }
        let tokenizer = try reader.takeFlag() ? try reader.takeID() : nil
        var samples: [ProbeSample] = []
        for _ in 0..<(try reader.takeCount(itemBytes: Probe.leastSampleBytes)) { samples.append(try Probe.takeSample(&reader)) }
        var pieces: [Int32: [UInt8]] = [:]
        var last: Int32 = -1
        for _ in 0..<(try reader.takeCount(itemBytes: 8)) {
            let token: Int32 = try reader.take()
            guard token > last else { throw reader.damage("pieces out of order") }
            last = token
            pieces[token] = try reader.takeBytes(Int(reader.take(UInt32.self)))
        }
        try reader.finish()
        do {
            try self.init(samples: samples, tokenizer: tokenizer, pieces: pieces)
        } catch {
            throw reader.damage(error.reason)
        }
    }

    /// Three counts, two flags, an id of one byte, two tokens and a range.
    private static let leastSampleBytes = 31

    private static func takeSample(_ reader: inout ByteReader) throws -> ProbeSample {
        let id = try reader.takeString()
        let tokenCount = try reader.takeCount(itemBytes: 4)
        var tokens: [Int32] = []
        tokens.reserveCapacity(tokenCount)
        for _ in 0..<tokenCount { tokens.append(try reader.take()) }
        var supervised: [Range<Int>] = []
        for _ in 0..<(try reader.takeCount(itemBytes: 8)) {
            let (start, end): (UInt32, UInt32) = (try reader.take(), try reader.take())
            guard start <= end else { throw reader.damage("a range that ends before it begins") }
            supervised.append(Int(start)..<Int(end))
        }
        let prompt = try reader.takeFlag() ? try reader.takeString() : nil
        let completion = try reader.takeFlag() ? try reader.takeString() : nil
        return ProbeSample(id: id, tokens: tokens, supervised: supervised, prompt: prompt, completion: completion)
    }
}
