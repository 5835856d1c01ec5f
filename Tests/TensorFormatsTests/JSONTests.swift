import TensorFormats
import Testing

@Suite struct JSONTests {
    func parse(_ text: String) throws -> JSONValue {
        try JSONValue.parse(Array(text.utf8), path: "x.json")
    }

    @Test func values() throws {
        let value = try parse(#" {"a": [1, -2, 1.5, true, false, null], "é": "x\u00e9\ud83d\ude00\n", "a": {}} "#)
        guard case .object(let members) = value else {
            Issue.record("not an object")
            return
        }
        #expect(members.map(\.key) == ["a", "é", "a"])
        #expect(
            members[0].value == .array([.unsigned(1), .signed(-2), .double(1.5), .bool(true), .bool(false), .null]))
        #expect(value["a"] == .object([]))
        #expect(value["é"]?.string == "xé😀\n")
        #expect(value["b"] == nil)
        // Canonically equal, yet another key.
        #expect(value["e\u{301}"] == nil)
        #expect(value.members?.count == 3)
    }

    @Test func integersAreExact() throws {
        #expect(try parse("18446744073709551615") == .unsigned(.max))
        #expect(try parse("18446744073709551616") == .double(18_446_744_073_709_551_616))
        #expect(try parse("-9223372036854775808") == .signed(.min))
        #expect(try parse("-9223372036854775809") == .double(-9_223_372_036_854_775_808))
        #expect(try parse("-0").double?.sign == .minus)
        #expect(try parse("0").unsigned == 0)
        #expect(try parse("1e-400").double == 0)
        #expect(try parse("-7").double == -7)
        #expect(try parse("[1]").array == [.unsigned(1)])
    }

    @Test(arguments: [
        ("", 0), ("{", 1), ("[1,]", 3), (#"{"a":1,}"#, 7), (#"{"a" 1}"#, 5), ("[1 2]", 3), ("nul", 0), ("NaN", 0),
        ("01", 0), ("1.", 2), ("1e400", 0), (#""\x""#, 1), (#""\ud800""#, 1), (#""\ud800\u0041""#, 1), ("\"a\nb\"", 2),
        ("\"a", 2), ("1 1", 2), ("'a'", 0), ("{1:2}", 1), (#""\u12g4""#, 5), ("\u{feff}{}", 0), ("[", 1), ("-", 0),
    ])
    func malformed(text: String, byte: UInt64) throws {
        let error = #expect(throws: FormatError.self) { try parse(text) }
        #expect(error?.code == .malformed)
        #expect(error?.byte == byte, "\(text)")
    }

    @Test(
        arguments: [
            [0x22, 0xff, 0x22], [0x22, 0xc0, 0x80, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22],
            [0x22, 0xf5, 0x80, 0x80, 0x80, 0x22],
            [0x22, 0xe2, 0x82, 0x22], [0x22, 0x80, 0x22], [0x22, 0xf0, 0x80, 0x80, 0x80, 0x22],
            [0x22, 0xe0, 0x80, 0x80, 0x22],
        ] as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) {
        #expect(throws: FormatError.self) { try JSONValue.parse(bytes, path: "x") }
    }

    @Test func validUTF8OfEveryLength() throws {
        let text = "\u{7f}\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}"
        #expect(try parse("\"\(text)\"") == .string(text))
    }

    @Test func depth() throws {
        #expect(throws: Never.self) {
            try parse(String(repeating: "[", count: 127) + String(repeating: "]", count: 127))
        }
        #expect(throws: FormatError.self) {
            try parse(String(repeating: "[", count: 128) + String(repeating: "]", count: 128))
        }
    }
}

@Suite struct ShardIndexTests {
    func parse(_ text: String) throws -> ShardIndex {
        try ShardIndex(parsing: Array(text.utf8), path: "model.safetensors.index.json")
    }

    @Test func filesAreSortedAndUnique() throws {
        let index = try parse(
            #"{"metadata":{"total_size":8},"weight_map":{"b":"m-2.safetensors","a":"m-1.safetensors","c":"m-2.safetensors","a":"m-3.safetensors"}}"#
        )
        #expect(index.files == ["m-2.safetensors", "m-3.safetensors"])
        #expect(index.weightMap.map(\.tensor) == ["a", "b", "c"])
        #expect(index.weightMap.map(\.file) == ["m-3.safetensors", "m-2.safetensors", "m-2.safetensors"])
    }

    @Test(arguments: ["/etc/passwd", "..", "a/../../b", "", "a\\u0000b", "a\\\\b", "a//b", "./a", "a/"])
    func unsafeNames(file: String) throws {
        let error = #expect(throws: FormatError.self) { try parse(#"{"weight_map":{"a":"\#(file)"}}"#) }
        #expect(error?.code == .unsafeName)
        #expect(error?.description.contains("\n") == false)
    }

    @Test(arguments: ["{}", "[]", #"{"weight_map":[]}"#, #"{"weight_map":{"a":1}}"#, #"{"weight_map":{"a":"b"}"#])
    func malformed(text: String) throws {
        let error = #expect(throws: FormatError.self) { try parse(text) }
        #expect(error?.code == .malformed)
    }

    @Test func safeNames() throws {
        for name in ["model.safetensors", "a/b/c.bin", "..a", "...", ".hidden", "é"] {
            #expect(throws: Never.self) { try SafePath.check(name, in: "x") }
        }
    }
}
