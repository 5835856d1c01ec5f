/// What the patterns of pre-tokenizers ask of a character, as the library's regular expression engine answers it.
///
/// That engine knows Unicode 16: characters that came later are in no class but `numeric`, which is not its own and
/// follows Unicode 17. U+0295 was a lower-case letter in 16.
/// `tools/reference/tokenizers/make.py` writes the classes of every character, and a test compares them.
struct CharacterClasses {
    struct Class: OptionSet {
        let rawValue: UInt8
        /// `\p{L}`
        static let letter = Class(rawValue: 1)
        /// `\p{N}`
        static let number = Class(rawValue: 2)
        /// `\s`
        static let space = Class(rawValue: 4)
        /// `\p{M}`
        static let mark = Class(rawValue: 8)
        /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
        static let upper = Class(rawValue: 16)
        /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
        static let lower = Class(rawValue: 32)
        /// `[\r\n]`
        static let newline = Class(rawValue: 64)
        /// A digit to the pre-tokenizer of that name.
        static let numeric = Class(rawValue: 128)
    }

    /// Where the classes of 256 characters start; -1 until one of them is asked for.
    private var pages = [Int32](repeating: -1, count: 0x110000 >> 8)
    private var classes: [UInt8] = []

    /// O(1), but for the first character of each 256.
    @inline(__always)
    mutating func of(_ scalar: UInt32) -> Class {
        let page = pages[Int(scalar >> 8)]
        if page >= 0 { return Class(rawValue: classes[Int(page) &+ Int(scalar & 255)]) }
        return load(scalar)
    }

    private mutating func load(_ scalar: UInt32) -> Class {
        let first = scalar & ~255
        pages[Int(scalar >> 8)] = Int32(classes.count)
        for other in first..<first + 256 { classes.append(CharacterClasses.compute(other).rawValue) }
        return Class(rawValue: classes[classes.count - 256 + Int(scalar & 255)])
    }

    /// The classes of any number below 0x110000; none for surrogates.
    static func compute(_ value: UInt32) -> Class {
        guard let scalar = UnicodeScalar(value) else { return [] }
        let properties = scalar.properties
        if properties.isWhitespace { return value == 10 || value == 13 ? [.space, .newline] : .space }
        if value == 0x295 { return [.letter, .lower] }
        let found: Class
        switch properties.generalCategory {
        case .uppercaseLetter, .titlecaseLetter: found = [.letter, .upper]
        case .lowercaseLetter: found = [.letter, .lower]
        case .modifierLetter, .otherLetter: found = [.letter, .upper, .lower]
        case .nonspacingMark, .spacingMark, .enclosingMark: found = [.mark, .upper, .lower]
        case .decimalNumber, .letterNumber, .otherNumber: found = [.number, .numeric]
        default: return []
        }
        guard let age = properties.age, age.major <= 16 else { return found.intersection(.numeric) }
        return found
    }
}
