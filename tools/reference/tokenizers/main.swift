// What check.py and speed.py run:
//
//   ckpt-tokenize encode TOKENIZER.json TEXTS IDS [REPEATS]   prints milliseconds of loading and of encoding, the best
//   ckpt-tokenize decode TOKENIZER.json IDS TEXTS             special tokens as text
//   ckpt-tokenize load TOKENIZER.json [REPEATS]               milliseconds of reading and of parsing, first and best
//
// TEXTS holds texts of any bytes, each after its length as a little-endian UInt32; IDS for each text the number of its
// tokens and the tokens, all as UInt32.

import Foundation
import LanguageModel

func read(_ path: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: URL(filePath: path))) }

func unpack(_ bytes: [UInt8], elementSize: Int) -> [ArraySlice<UInt8>] {
    var (rows, place): ([ArraySlice<UInt8>], Int) = ([], 0)
    while place < bytes.count {
        let count = elementSize * Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: place, as: UInt32.self) })
        rows.append(bytes[place + 4..<place + 4 + count])
        place += 4 + count
    }
    return rows
}

func append(_ values: some Sequence<Int32>, to output: inout [UInt8]) {
    for value in values { withUnsafeBytes(of: value.littleEndian) { output.append(contentsOf: $0) } }
}

func encode(_ path: String, _ texts: String, _ target: String, repeats: Int) throws {
    let (clock, file) = (ContinuousClock(), try read(path))
    let rows = unpack(try read(texts), elementSize: 1).map { Array($0) }
    var (loading, encoding) = (Duration.seconds(3600), Duration.seconds(3600))
    var output: [UInt8] = []
    for _ in 0..<repeats {
        let start = clock.now
        let tokenizer = try Tokenizer(json: file, path: path)
        let loaded = clock.now
        let ids = rows.map { tokenizer.encode(utf8: $0, addSpecialTokens: true) }
        (loading, encoding) = (min(loading, loaded - start), min(encoding, clock.now - loaded))
        if output.isEmpty { for row in ids { append([Int32(row.count)] + row, to: &output) } }
    }
    try Data(output).write(to: URL(filePath: target))
    print("load \(loading / .milliseconds(1)) ms, encode \(encoding / .milliseconds(1)) ms")
}

func decode(_ path: String, _ ids: String, _ target: String) throws {
    let tokenizer = try Tokenizer(json: read(path), path: path)
    var output: [UInt8] = []
    for row in unpack(try read(ids), elementSize: 4) {
        let tokens = Array(row).withUnsafeBytes { row in
            (0..<row.count / 4).map { row.loadUnaligned(fromByteOffset: 4 * $0, as: Int32.self) }
        }
        let text = Array(tokenizer.decode(tokens).utf8)
        append([Int32(text.count)], to: &output)
        output += text
    }
    try Data(output).write(to: URL(filePath: target))
}

func load(_ path: String, repeats: Int) throws {
    let clock = ContinuousClock()
    var (reading, parsing): ([Duration], [Duration]) = ([], [])
    for _ in 0..<repeats {
        let start = clock.now
        let file = try read(path)
        let done = clock.now
        let tokenizer = try Tokenizer(json: file, path: path)
        withExtendedLifetime(tokenizer) { parsing.append(clock.now - done) }
        reading.append(done - start)
    }
    func line(_ name: String, _ times: [Duration]) -> String {
        "\(name) \(times[0] / .milliseconds(1)) ms first, \(times.min()! / .milliseconds(1)) ms best"
    }
    print("\(line("read", reading)); \(line("parse", parsing))")
}

let arguments = CommandLine.arguments
do {
    switch (arguments.dropFirst().first, arguments.count) {
    case ("encode", 5...):
        try encode(arguments[2], arguments[3], arguments[4], repeats: arguments.count > 5 ? Int(arguments[5]) ?? 1 : 1)
    case ("decode", 5): try decode(arguments[2], arguments[3], arguments[4])
    case ("load", 3...): try load(arguments[2], repeats: arguments.count > 3 ? Int(arguments[3]) ?? 1 : 5)
    default: print("usage: ckpt-tokenize encode|decode|load TOKENIZER.json ...")
    }
} catch {
    print("error: \(error)")
}
