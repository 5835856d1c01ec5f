/// The regular expressions by which tokenizers cut text into words, recognised by their exact text.
///
/// No engine runs them: `SplitPattern+Scan.swift` reads a text once, in steps that these features choose. A pattern
/// that is not in the table is refused; near enough is not the same tokens.
struct SplitPattern: Sendable, Equatable {
    /// `'s|'t|'re|'ve|'m|'ll|'d`, and where it stands.
    enum Contractions { case none, first, firstAnyCase, suffixAnyCase }
    /// What a word is.
    enum Words {
        /// ` ?\p{L}+`
        case spaced
        /// `[^\r\n\p{L}\p{N}]?\p{L}+`
        case prefixed
        /// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
        case prefixedWithMarks
        /// `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`, else the same with `+` and `*`
        case cased
    }

    var contractions: Contractions
    var words: Words
    /// Digits in a number at most.
    var digits: Int
    /// ` ?\p{N}+` rather than `\p{N}`.
    var spacedNumbers = false
    /// Marks are no punctuation: `[^\s\p{L}\p{M}\p{N}]`.
    var marksInWords = false
    /// `[\r\n]*` after punctuation, and `\s*[\r\n]+` before other white space.
    var newlines = true
    /// `[\r\n/]*` after punctuation.
    var slashes = false

    static let gpt2 = SplitPattern(
        contractions: .first, words: .spaced, digits: .max, spacedNumbers: true, newlines: false)

    /// The pattern with this text; nil where it is none of the known ones. O(1).
    init?(regex: String) {
        guard let pattern = SplitPattern.known[regex] else { return nil }
        self = pattern
    }

    private init(
        contractions: Contractions, words: Words, digits: Int, spacedNumbers: Bool = false, marksInWords: Bool = false,
        newlines: Bool = true, slashes: Bool = false
    ) {
        (self.contractions, self.words, self.digits) = (contractions, words, digits)
        (self.spacedNumbers, self.marksInWords) = (spacedNumbers, marksInWords)
        (self.newlines, self.slashes) = (newlines, slashes)
    }

    private static let contraction = #"(?i:'s|'t|'re|'ve|'m|'ll|'d)"#
    private static let punctuation = #" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
    private static let upper = #"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"#
    private static let lower = #"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"#

    /// Two alternatives for words that tell cases apart.
    private static func casedWords(suffix: String) -> String {
        let prefix = #"[^\r\n\p{L}\p{N}]?"#
        return "\(prefix)\(upper)*\(lower)+\(suffix)|\(prefix)\(upper)+\(lower)*\(suffix)"
    }

    private static let known: [String: SplitPattern] = [
        // GPT-2 and what followed it: GPT-NeoX, Pythia, OLMo 1.
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#: gpt2,
        // Llama 3, OLMo 2: GPT-4's.
        contraction + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"# + punctuation:
            SplitPattern(contractions: .firstAnyCase, words: .prefixed, digits: 3),
        // Qwen 2, 2.5 and 3.
        contraction + #"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"# + punctuation:
            SplitPattern(contractions: .firstAnyCase, words: .prefixed, digits: 1),
        // Qwen 3.5.
        contraction + #"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#:
            SplitPattern(contractions: .firstAnyCase, words: .prefixedWithMarks, digits: 1, marksInWords: true),
        // Mistral's Tekken: NeMo and later.
        casedWords(suffix: "") + #"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#:
            SplitPattern(contractions: .none, words: .cased, digits: 1, slashes: true),
        // GPT-4o's: gpt-oss, Llama 4.
        casedWords(suffix: contraction + "?") + #"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"#:
            SplitPattern(contractions: .suffixAnyCase, words: .cased, digits: 3, slashes: true),
    ]
}
