/// A decoder that can be trained: forward and backward passes over parameters in memory. T tokens go through a layer at once.
protocol TrainableDecoder {
    /// Columns of the residual stream.
    var width: Int { get }
    var layerCount: Int { get }
    /// (V, D): logits are the last norm's output times this, transposed.
    var head: Parameter { get }
    /// Parameters that start as ones, not as random numbers or zeros, in a model that starts from nothing.
    var gains: [Parameter] { get }
    /// Matrices whose products are added to the stream: a model that starts from nothing has them smaller, by its depth.
    var outputs: [Parameter] { get }

    /// Tokens into the stream, (T, D).
    func embed(_ pass: TrainingPass, into stream: Matrix)
    /// Takes d stream.
    func embedBackward(_ d: Matrix, _ pass: TrainingPass)

    /// The stream through layer `index`; what the backward pass needs is left in `saved`.
    func forward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ pass: TrainingPass, into out: Matrix)
    /// d of the layer's output becomes d of its input, `stream`. What `saved` holds is used up.
    func backward(layer index: Int, _ stream: Matrix, _ saved: SavedLayer, _ d: Matrix, _ pass: TrainingPass)

    /// The last norm, for rows of the stream.
    func finish(_ x: Matrix, _ pass: TrainingPass, into out: Matrix)
    /// dx = the gradient of `finish`'s x; zeros were there.
    func finishBackward(_ x: Matrix, _ dy: Matrix, _ pass: TrainingPass, addingTo dx: Matrix)
}

/// What a layer's forward pass leaves for its backward pass.
final class SavedLayer {
    /// What there is to keep; which of them are used depends on the layer.
    enum Part: Int, CaseIterable {
        /// Queries, keys and values as attention takes them.
        case projected
        /// Queries and keys before they are normed head by head.
        case unnormed
        /// What the heads see, before the output product.
        case mixed
        /// The stream between attention and feed-forward layer.
        case middle
        /// The feed-forward layer's products, before the activation.
        case gate, up
    }

    private let buffers = Part.allCases.map { _ in FloatBuffer() }

    func matrix(_ part: Part, _ rows: Int, _ columns: Int) -> Matrix { buffers[part.rawValue].matrix(rows, columns) }
}
