// Tokenises texts for `check.py`: ckpt-tokenize TOKENIZER.json TEXTS IDS [REPEATS]
//
// TEXTS holds texts of any bytes, each after its length as a little-endian UInt32. IDS gets for each text the number
// of its tokens and the tokens, all as UInt32. Prints milliseconds of loading and of encoding, the best of REPEATS.

import Foundation
import LanguageModel

func run() throws {
    let arguments = CommandLine.arguments
    let clock = ContinuousClock()
    let file = [UInt8](try Data(contentsOf: URL(filePath: arguments[1])))
    let texts = [UInt8](try Data(contentsOf: URL(filePath: arguments[2])))
    let repeats = arguments.count > 4 ? Int(arguments[4]) ?? 1 : 1

    var split: [[UInt8]] = []
    var place = 0
    while place < texts.count {
        let count = (0..<4).reduce(0) { $0 | Int(texts[place + $1]) << (8 * $1) }
        split.append(Array(texts[place + 4..<place + 4 + count]))
        place += 4 + count
    }
    var (loading, encoding) = (Duration.seconds(3600), Duration.seconds(3600))
    var output: [UInt8] = []
    for _ in 0..<repeats {
        let start = clock.now
        let tokenizer = try Tokenizer(json: file, path: arguments[1])
        let loaded = clock.now
        let ids = split.map { tokenizer.encode(utf8: $0, addSpecialTokens: true) }
        let encoded = clock.now
        (loading, encoding) = (min(loading, loaded - start), min(encoding, encoded - loaded))
        if output.isEmpty {
            for ids in ids {
                for value in [Int32(ids.count)] + ids { withUnsafeBytes(of: value) { output.append(contentsOf: $0) } }
            }
        }
    }
    try Data(output).write(to: URL(filePath: arguments[3]))
    print("load \(loading / .milliseconds(1)) ms, encode \(encoding / .milliseconds(1)) ms")
}

do { try run() } catch { print("error: \(error)") }
