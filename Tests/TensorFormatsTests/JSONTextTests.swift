import TensorFormats
import Testing

@Suite struct JSONTextTests {
    @Test func `what is written is read back`() throws {
        let value = JSONValue.object([
            .init(key: "a \"key\"\n", value: .array([.null, .bool(true), .bool(false), .unsigned(.max), .signed(.min), .array([])])),
            .init(key: "", value: .object([])),
            .init(key: "numbers", value: .array([0.1, 1, -0.0, 1e-05, .leastNonzeroMagnitude, .greatestFiniteMagnitude].map { .double($0) })),
            .init(key: "text", value: .string("\u{1}\t\r\n\\\"/ e\u{301} \u{1F600}\u{7f}")),
        ])
        #expect(try JSONValue.parse(Array(value.text.utf8), path: "text") == value)
        #expect(!value.text.contains { $0.isNewline })
    }

    @Test func `what JSON has no number for is null`() {
        #expect(JSONValue.array([.double(.nan), .double(.infinity)]).text == "[null,null]")
    }
}
