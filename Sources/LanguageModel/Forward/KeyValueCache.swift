/// Keys and values of the tokens of one sequence that were run before, layer by layer, normed and turned as attention reads them.
final class KeyValueCache {
    /// Tokens that all layers hold.
    private(set) var count = 0
    /// Tokens there is room for.
    let capacity: Int
    private var layers: [(keys: FloatBuffer, values: FloatBuffer)] = []

    init(capacity: Int) { self.capacity = capacity }

    /// Keys and values of a layer, (capacity, keyCount * size), head beside head. Pages that were never written take no memory.
    func layer(_ index: Int, _ heads: AttentionHeads) -> (keys: Matrix, values: Matrix) {
        while layers.count <= index { layers.append((FloatBuffer(), FloatBuffer())) }
        let columns = heads.keyCount * heads.size
        return (layers[index].keys.matrix(capacity, columns), layers[index].values.matrix(capacity, columns))
    }

    /// Every layer has taken in so many tokens more.
    func advance(_ tokens: Int) { count += tokens }
}
