import TestSupport
import Testing
import WeakTraining

@Suite struct RotationTests {
    /// Every target and offset of small vocabularies.
    static let all = (3...9).flatMap { vocabulary in
        (0..<vocabulary).flatMap { target in
            (1..<vocabulary - 1).map { Rotation(vocabulary: vocabulary, target: target, offset: $0) }
        }
    }

    @Test(arguments: all) func `every token but the target gets another one's logit`(_ rotation: Rotation) {
        let tokens = Array(0..<rotation.vocabulary)
        let sources = tokens.map(rotation.source)
        #expect(sources.sorted() == tokens)
        for token in tokens {
            #expect((sources[token] == token) == (token == rotation.target))
            #expect(rotation.destination(of: sources[token]) == token)
        }
        #expect(rotation.inverse.inverse == rotation)
    }

    @Test(arguments: all) func `tiles are parts of the rotated row`(_ rotation: Rotation) {
        let row = (0..<rotation.vocabulary).map { Float($0 * $0 + 1) }
        let wanted = (0..<rotation.vocabulary).map { row[rotation.source(of: $0)] }
        for first in 0...rotation.vocabulary {
            for end in first...rotation.vocabulary {
                #expect(RotationTests.tile(rotation, row, first..<end) == Array(wanted[first..<end]))
                let runs = rotation.runs(first..<end)
                #expect(runs.count <= 5 && runs.flatMap { Array($0.tokens) } == Array(first..<end))
            }
        }
        #expect(RotationTests.tile(rotation.inverse, wanted, 0..<rotation.vocabulary) == row)
    }

    static func tile(_ rotation: Rotation, _ row: [Float], _ tokens: Range<Int>) -> [Float] {
        var tile = [Float](repeating: .nan, count: tokens.count)
        var span = tile.mutableSpan
        rotation.apply(to: row.span, tokens, into: &span)
        return tile
    }

    @Test func `entropy stays, knowledge goes`() {
        var generator = SeededGenerator(seed: 5)
        let row = (0..<1000).map { _ in Float(generator.normal()) }
        let rotation = Rotation(vocabulary: 1000, target: 123, seed: 1, sample: 2, position: 3)
        let rotated = RotationTests.tile(rotation, row, 0..<1000)
        #expect(rotated[123] == row[123] && rotated.sorted() == row.sorted() && rotated != row)
    }

    /// <a rotated, g> = <a, g rotated back>: what makes it the gradient's way.
    @Test(arguments: all) func `gradients go back to where logits came from`(_ rotation: Rotation) {
        let logits = (0..<rotation.vocabulary).map { Float($0 + 1) }
        let gradient = (0..<rotation.vocabulary).map { Float(($0 * 5 + 2) % 11) }
        func product(_ x: [Float], _ y: [Float]) -> Float { zip(x, y).reduce(0) { $0 + $1.0 * $1.1 } }
        let whole = 0..<rotation.vocabulary
        #expect(
            product(RotationTests.tile(rotation, logits, whole), gradient)
                == product(logits, RotationTests.tile(rotation.inverse, gradient, whole)))
    }

    @Test func `offsets are drawn for seed, sample and position, and all of them occur`() {
        func offset(_ seed: UInt64, _ sample: Int, _ position: Int) -> Int {
            Rotation(vocabulary: 10_000, target: 1, seed: seed, sample: sample, position: position).offset
        }
        #expect(offset(1, 2, 3) == offset(1, 2, 3))
        #expect(Set([offset(1, 2, 3), offset(2, 2, 3), offset(1, 3, 3), offset(1, 2, 4)]).count == 4)
        let few = Set((0..<200).map { Rotation(vocabulary: 6, target: 0, seed: 1, sample: $0, position: 0).offset })
        #expect(few == [1, 2, 3, 4])
    }
}
