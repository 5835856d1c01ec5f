/// Reads arbitrary bytes as a tokenizer.json; what is accepted tokenises a text and turns tokens back.
func fuzz(_ bytes: [UInt8]) {
    do throws(LanguageModelError) {
        let tokenizer = try Tokenizer(json: bytes, path: "fuzz")
        precondition(tokenizer.vocabularyCount <= 2 * bytes.count + 65536, "ids beyond what the file has room for")
        let texts = [Array("a b  ab\n\t1234 \u{2581}e\u{301}\u{1e69}\u{ac00}\u{1f600}<s> 's<0x0A>aaaaab ".utf8), Array(bytes.prefix(300))]
        for text in texts {
            let ids = tokenizer.encode(utf8: text, addSpecialTokens: true)
            precondition(ids.allSatisfy { 0..<Int32(tokenizer.vocabularyCount) ~= $0 }, "an id that is nobody's")
            precondition(ids.allSatisfy { tokenizer.piece($0).count <= bytes.count }, "a token longer than the file")
            _ = tokenizer.decode(ids, skipSpecialTokens: text.count % 2 == 0)
        }
        _ = tokenizer.decode([-1, .max] + (0..<Int32(min(tokenizer.vocabularyCount, 500))))
        precondition(tokenizer.id(of: "\u{120}a").map { !tokenizer.piece($0).isEmpty } ?? true, "a token without bytes")
    } catch {
        precondition(!error.description.utf8.contains(UInt8(ascii: "\n")), "an error of several lines")
    }
}
