/// One trained model's way through a micro-batch, there and back, and the memory of what lies between.
final class ModelRun {
    let model: TrainedModel
    private let pass: TrainingPass
    private let isRecomputing: Bool
    /// Into each layer, and out of the last: (T, D).
    private let streams: [FloatBuffer]
    private let saved: [SavedLayer]
    private let gradient = FloatBuffer()

    /// - Parameter isRecomputing: keep the stream between layers only, and run each layer again when its turn comes on the way back.
    init(_ model: TrainedModel, _ pass: TrainingPass, isRecomputing: Bool) {
        self.model = model
        self.pass = pass
        self.isRecomputing = isRecomputing
        let layers = model.decoder.layerCount
        streams = (0...layers).map { _ in FloatBuffer() }
        saved = (0..<(isRecomputing ? min(1, layers) : layers)).map { _ in SavedLayer() }
    }

    private func stream(_ index: Int) -> Matrix { streams[index].matrix(pass.batch.tokens.count, model.decoder.width) }

    private func saved(_ layer: Int) -> SavedLayer { saved[isRecomputing ? 0 : layer] }

    /// The last layer's output.
    var output: Matrix { stream(model.decoder.layerCount) }

    func forward() {
        let decoder = model.decoder
        decoder.embed(pass, into: stream(0))
        for layer in 0..<decoder.layerCount {
            decoder.forward(layer: layer, stream(layer), saved(layer), pass, into: stream(layer + 1))
        }
    }

    /// The gradient of `output`, zeros, to be filled before `backward`.
    func zeroGradient() -> Matrix {
        let d = gradient.matrix(pass.batch.tokens.count, model.decoder.width)
        pass.forEachBlock(d.rows) { rows in
            d.row(rows.lowerBound).update(repeating: 0, count: rows.count * d.columns)
        }
        return d
    }

    func backward(_ d: Matrix) {
        let decoder = model.decoder
        for layer in (0..<decoder.layerCount).reversed() {
            if isRecomputing, layer + 1 < decoder.layerCount {
                decoder.forward(layer: layer, stream(layer), saved(layer), pass, into: stream(layer + 1))
            }
            decoder.backward(layer: layer, stream(layer), saved(layer), d, pass)
        }
        decoder.embedBackward(d, pass)
    }
}
