/// The *shuffled* weak model: its logits but the target's, in the order of the tokens, rotated: the same entropy, no knowledge.
///
/// With the target left out, V - 1 logits have ranks 0 ..< V - 1; after a rotation by n, rank r has what was at (r + n) mod (V - 1).
enum Rotation {
    static func rotate(
        _ z: UnsafeMutablePointer<Float>, _ count: Int, target: Int, by offset: Int, _ scratch: UnsafeMutablePointer<Float>
    ) {
        let others = count - 1
        guard others > 1 else { return }
        for rank in 0..<others {
            var source = rank + offset
            if source >= others { source -= others }
            scratch[rank] = z[source < target ? source : source + 1]
        }
        z.update(from: scratch, count: target)
        (z + target + 1).update(from: scratch + target, count: others - target)
    }

    /// Undoes `rotate`: what the gradient of rotated logits needs to be that of the logits.
    static func rotateBack(
        _ z: UnsafeMutablePointer<Float>, _ count: Int, target: Int, by offset: Int, _ scratch: UnsafeMutablePointer<Float>
    ) {
        rotate(z, count, target: target, by: (count - 1) - offset, scratch)
    }
}
