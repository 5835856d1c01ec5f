/// Recursive descent over a formula's characters, one method for each rule of its grammar.
struct FormulaParser {
    /// Brackets, signs and powers that may be open at once: what bounds the recursion.
    private static let maximumDepth = 64
    /// Characters a formula may have.
    private static let maximumLength = 4096

    private let option: String
    private let characters: [Character]
    private var position = 0
    private var depth = 0
    private var steps: [Formula.Step] = []

    init(_ text: String, option: String) {
        self.option = option
        characters = Array(text)
    }

    mutating func parse() throws(WeakTrainingError) -> [Formula.Step] {
        guard characters.count <= FormulaParser.maximumLength else {
            throw WeakTrainingError(.usage, "\(option): a formula of more than \(FormulaParser.maximumLength) characters")
        }
        try sum()
        if let character = peek() { throw failure("an operator was expected, not \(shown(character))") }
        return steps
    }

    // MARK: The rules

    private mutating func sum() throws(WeakTrainingError) {
        try product()
        while let sign = take(anyOf: "+-") {
            try product()
            steps.append(sign == "+" ? .add : .subtract)
        }
    }

    private mutating func product() throws(WeakTrainingError) {
        try factor()
        while let sign = take(anyOf: "*/") {
            try factor()
            steps.append(sign == "*" ? .multiply : .divide)
        }
    }

    private mutating func factor() throws(WeakTrainingError) {
        depth += 1
        defer { depth -= 1 }
        guard depth <= FormulaParser.maximumDepth else {
            throw failure("nested deeper than \(FormulaParser.maximumDepth) levels")
        }
        if take(anyOf: "-") != nil {
            try factor()
            steps.append(.negate)
        } else {
            try value()
            if take(anyOf: "^") != nil {
                try factor()
                steps.append(.raise)
            }
        }
    }

    private mutating func value() throws(WeakTrainingError) {
        guard let character = peek() else { throw failure("the formula ends where a value was expected") }
        switch character {
        case "(":
            position += 1
            try sum()
            try expect(")")
        case "[":
            position += 1
            try sum()
            try expect("]")
            guard position < characters.count, characters[position] == "+" else { throw failure("a bracket is closed by ]+") }
            position += 1
            steps.append(.function(.relu))
        case "0"..."9", ".": try number()
        case _ where isNamePart(character): try name()
        default: throw failure("a value was expected, not \(shown(character))")
        }
    }

    private mutating func number() throws(WeakTrainingError) {
        let start = position
        skipDigits()
        if position < characters.count, characters[position] == "." {
            position += 1
            skipDigits()
        }
        if position < characters.count, characters[position] == "e" || characters[position] == "E" {
            position += 1
            if position < characters.count, characters[position] == "+" || characters[position] == "-" { position += 1 }
            skipDigits()
        }
        let text = String(characters[start..<position])
        guard let number = Double(text), number.isFinite else { throw failure("\(text) is no number", at: start) }
        steps.append(.number(number))
    }

    private mutating func name() throws(WeakTrainingError) {
        let start = position
        while position < characters.count, isNamePart(characters[position]) { position += 1 }
        let name = String(characters[start..<position])
        if let variable = Formula.Variable(rawValue: name) {
            steps.append(.variable(variable))
            return
        }
        guard let function = Formula.Function(rawValue: name) else {
            let known = Formula.Variable.allCases.map(\.rawValue) + Formula.Function.allCases.map(\.rawValue)
            throw failure("\(name) is unknown", at: start, hint: "known are \(known.joined(separator: ", "))")
        }
        guard take(anyOf: "(") != nil else { throw failure("\(name) takes its arguments in parentheses") }
        try sum()
        if function.takesSeveral {
            guard peek() == "," else { throw failure("\(name) takes two arguments or more") }
            while take(anyOf: ",") != nil {
                try sum()
                steps.append(.function(function))
            }
        } else {
            if peek() == "," { throw failure("\(name) takes one argument") }
            steps.append(.function(function))
        }
        try expect(")")
    }

    // MARK: Characters

    /// The next character that is no blank, not consumed; nil at the end.
    private mutating func peek() -> Character? {
        while position < characters.count, characters[position] == " " || characters[position] == "\t" { position += 1 }
        return position < characters.count ? characters[position] : nil
    }

    private mutating func take(anyOf choices: String) -> Character? {
        guard let character = peek(), choices.contains(character) else { return nil }
        position += 1
        return character
    }

    private mutating func expect(_ bracket: Character) throws(WeakTrainingError) {
        guard let character = peek() else { throw failure("the formula ends where \(bracket) was expected") }
        guard character == bracket else { throw failure("\(bracket) or an operator was expected, not \(shown(character))") }
        position += 1
    }

    private mutating func skipDigits() {
        while position < characters.count, ("0"..."9").contains(characters[position]) { position += 1 }
    }

    private func isNamePart(_ character: Character) -> Bool {
        character.isASCII && (character.isLetter || character.isNumber || character == "_")
    }

    /// Control characters as their escapes, so that an error stays one line.
    private func shown(_ character: Character) -> String {
        character.unicodeScalars.map { $0.value < 0x20 ? $0.escaped(asASCII: true) : String($0) }.joined()
    }

    private func failure(_ reason: String, at place: Int? = nil, hint: String? = nil) -> WeakTrainingError {
        WeakTrainingError(.usage, "\(option): column \((place ?? position) + 1): \(reason)", hint: hint)
    }
}
