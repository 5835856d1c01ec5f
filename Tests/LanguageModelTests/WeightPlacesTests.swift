import BlockCodec
import CheckpointStore
import Foundation
import TestSupport
import Testing

@testable import LanguageModel

/// Weights read from an image, from raw blocks, from packed blocks and from those decoded ahead: the same figures to the bit.
@Suite struct WeightPlacesTests {
    /// So many rows that the table has several blocks, whose borders are not those of panels.
    private static let vocabulary = 5_000

    @Test func figuresDoNotDependOnWhereWeightsAre() throws {
        let directory = try TemporaryDirectory()
        let source = directory.path + "/model"
        try TinyModel.write(seed: 3, vocabulary: WeightPlacesTests.vocabulary, width: 48, to: source)
        let samples = [7, 40, 3].map { count in
            ScoringSample(tokens: (0..<count).map { Int32($0 * 617 % WeightPlacesTests.vocabulary) }, supervised: [1..<count])
        }
        let plain = try LanguageModel(CheckpointContents(path: source), longest: 64)
        let wanted = try plain.score(samples)
        for (packing, makesImage) in [(Packing.delta, true), (.raw, false), (.dense, false)] {
            let path = directory.path + "/\(packing)-\(makesImage)"
            try Store.create(at: path)
            let store = try Store.open(path)
            var options = IngestOptions()
            (options.run, options.step, options.packing, options.makesImage) = ("r", 1, packing, makesImage)
            try store.ingest(source, options: options)
            let contents = try store.contents("r")
            #expect(contents.isMapped == makesImage)
            for places in [contents, try contents.decodedAhead()] {
                let model = try LanguageModel(places, longest: 64)
                #expect(try model.score(samples) == wanted, "\(packing)")
                var pairs = 0
                try model.score(samples, against: plain, lambda: 0.3) { results in
                    for (index, outputs) in results {
                        #expect(outputs.strong == outputs.weak && outputs.strong.top == wanted[index].top)
                        pairs += 1
                    }
                }
                #expect(pairs == samples.count)
            }
        }
    }
}
