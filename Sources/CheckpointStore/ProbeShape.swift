/// What is needed of a probe to check outputs on it.
struct ProbeShape: Sendable {
    var ids: [String]
    /// Supervised tokens of each sample.
    var supervised: [Int]

    init(_ probe: Probe) {
        ids = probe.samples.map(\.id)
        supervised = probe.samples.map(\.supervisedCount)
    }
}

/// The probe that outputs went to last. A probe never changes, so there is nothing to invalidate.
final class ProbeShapeCache: Sendable {
    private let last = Locked<(id: ContentID, shape: ProbeShape)?>(nil)

    func shape(_ id: ContentID, load: () throws -> ProbeShape) throws -> ProbeShape {
        if let known = last.withLock({ $0 }), known.id == id { return known.shape }
        let shape = try load()
        last.withLock { $0 = (id, shape) }
        return shape
    }
}
