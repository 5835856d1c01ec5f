/// A pickle machine for protocols 0 to 5 that executes nothing.
///
/// It follows the instructions of <https://docs.python.org/3/library/pickletools.html> on a stack of values.
/// Where Python would import a name and call it, this looks the name up in `PickleGlobal`'s allow-list, and
/// what is not there becomes an opaque value. Stack, memo and heap are bounded; time is linear in the bytes.
struct PickleReader {
    /// Values on the stack at once. A tuple of this length is the largest that can be built.
    static let maximumStack = 1 << 20
    /// Values in the memo.
    static let maximumMemo = 8 << 20
    /// Entries that a memo index may skip. Picklers number them from zero on; the slack costs a hostile file
    /// more bytes than it takes memory.
    static let maximumMemoGap = 64
    /// Bytes of a global's module and name, and of a storage's key. A pickle can repeat a long name in two bytes, so
    /// without a limit looking names up would not be linear in the bytes.
    static let maximumNameLength = 1024

    private let bytes: [UInt8]
    private let path: String
    /// Bytes from the start of the file to the pickle.
    private let origin: UInt64
    private var position = 0
    /// The instruction being executed, for errors.
    private(set) var instruction = 0
    private var stack: [PickleValue] = []
    /// Heights of the stack at the marks that are set.
    private var marks: [Int] = []
    private var memo: [PickleValue?] = []
    private var memoized = 0
    var heap = PickleHeap()

    init(_ bytes: [UInt8], path: String, origin: UInt64) {
        self.bytes = bytes
        self.path = path
        self.origin = origin
    }

    /// Runs the pickle up to its STOP and returns the value it leaves.
    ///
    /// - Throws: `.malformed` with the byte of the instruction that cannot be followed, `.unsupported` for one
    ///   that needs things outside the pickle, `.limit` over one of the limits above.
    /// - Complexity: O(n) in the bytes.
    mutating func run() throws(FormatError) -> PickleValue {
        while true {
            instruction = position
            let opcode = try integer(UInt8.self)
            if opcode == UInt8(ascii: ".") { return try pop() }
            try step(opcode)
            guard stack.count <= PickleReader.maximumStack, marks.count <= PickleReader.maximumStack else {
                throw refusal(.limit, "more than \(PickleReader.maximumStack) values on the pickle's stack")
            }
        }
    }

    func refusal(_ reason: String) -> FormatError {
        refusal(.malformed, reason)
    }

    func refusal(_ code: FormatError.Code, _ reason: String) -> FormatError {
        FormatError(code, path: path, byte: origin + UInt64(instruction), "pickle: \(reason)")
    }

    /// Bytes from the start of the file to the instruction being executed.
    var place: UInt64 { origin + UInt64(instruction) }

    // MARK: Instructions

    private mutating func step(_ opcode: UInt8) throws(FormatError) {
        switch opcode {
        case 0x80:  // PROTO
            let version = try integer(UInt8.self)
            guard version <= 5 else { throw refusal(.unsupported, "protocol \(version)") }
        case 0x95:  // FRAME
            let length = try integer(UInt64.self)
            guard length <= UInt64(bytes.count - position) else { throw refusal("a frame runs past the end") }

        case UInt8(ascii: "N"): stack.append(.none)
        case 0x88: stack.append(.bool(true))  // NEWTRUE
        case 0x89: stack.append(.bool(false))  // NEWFALSE
        case UInt8(ascii: "J"): stack.append(.int(Int64(try integer(Int32.self))))  // BININT
        case UInt8(ascii: "K"): stack.append(.int(Int64(try integer(UInt8.self))))  // BININT1
        case UInt8(ascii: "M"): stack.append(.int(Int64(try integer(UInt16.self))))  // BININT2
        case 0x8a: try pushLong(byteCount: Int(try integer(UInt8.self)))  // LONG1
        case 0x8b: try pushLong(byteCount: try length(Int32.self))  // LONG4
        case UInt8(ascii: "G"):  // BINFLOAT, the only big-endian number
            stack.append(.float(Double(bitPattern: try integer(UInt64.self).byteSwapped)))
        case UInt8(ascii: "I"), UInt8(ascii: "L"): try pushDecimal()  // INT, LONG
        case UInt8(ascii: "F"):  // FLOAT
            guard let value = Double(try line()) else { throw refusal("a FLOAT that is not a number") }
            stack.append(.float(value))

        case UInt8(ascii: "X"): try pushString(byteCount: try length(UInt32.self))  // BINUNICODE
        case 0x8c: try pushString(byteCount: Int(try integer(UInt8.self)))  // SHORT_BINUNICODE
        case 0x8d: try pushString(byteCount: try length(UInt64.self))  // BINUNICODE8
        case UInt8(ascii: "T"): try pushOldString(byteCount: try length(Int32.self))  // BINSTRING
        case UInt8(ascii: "U"): try pushOldString(byteCount: Int(try integer(UInt8.self)))  // SHORT_BINSTRING
        case UInt8(ascii: "B"): try pushBytes(byteCount: try length(UInt32.self))  // BINBYTES
        case UInt8(ascii: "C"): try pushBytes(byteCount: Int(try integer(UInt8.self)))  // SHORT_BINBYTES
        case 0x8e, 0x96: try pushBytes(byteCount: try length(UInt64.self))  // BINBYTES8, BYTEARRAY8

        case UInt8(ascii: "]"): stack.append(.list(try container([])))  // EMPTY_LIST
        case UInt8(ascii: "}"): stack.append(.dict(try container([])))  // EMPTY_DICT
        case UInt8(ascii: ")"): stack.append(.tuple(try container([])))  // EMPTY_TUPLE
        case 0x8f: stack.append(.set(try container([])))  // EMPTY_SET
        case UInt8(ascii: "l"): stack.append(.list(try container(try popMark())))  // LIST
        case UInt8(ascii: "t"): stack.append(.tuple(try container(try popMark())))  // TUPLE
        case 0x85...0x87:  // TUPLE1, TUPLE2, TUPLE3
            stack.append(.tuple(try container(try pop(count: Int(opcode) - 0x84))))
        case 0x91: stack.append(.set(try container(try popMark())))  // FROZENSET
        case UInt8(ascii: "d"): stack.append(.dict(try container(try pairs(popMark()))))  // DICT
        case UInt8(ascii: "a"): try append(try pop(count: 1))  // APPEND
        case UInt8(ascii: "e"), 0x90: try append(try popMark())  // APPENDS, ADDITEMS
        case UInt8(ascii: "s"): try set(try pop(count: 2))  // SETITEM
        case UInt8(ascii: "u"): try set(try pairs(popMark()))  // SETITEMS

        case UInt8(ascii: "("): marks.append(stack.count)  // MARK
        case UInt8(ascii: "0"): try discard()  // POP
        case UInt8(ascii: "1"): _ = try popMark()  // POP_MARK
        case UInt8(ascii: "2"): stack.append(try top())  // DUP

        case UInt8(ascii: "p"): try put(try decimalIndex())  // PUT
        case UInt8(ascii: "q"): try put(Int(try integer(UInt8.self)))  // BINPUT
        case UInt8(ascii: "r"): try put(try length(UInt32.self))  // LONG_BINPUT
        case 0x94: try put(memoized)  // MEMOIZE
        case UInt8(ascii: "g"): stack.append(try get(try decimalIndex()))  // GET
        case UInt8(ascii: "h"): stack.append(try get(Int(try integer(UInt8.self))))  // BINGET
        case UInt8(ascii: "j"): stack.append(try get(try length(UInt32.self)))  // LONG_BINGET

        case UInt8(ascii: "c"): stack.append(try global(module: try line(), name: try line()))  // GLOBAL
        case 0x93:  // STACK_GLOBAL
            guard case .string(let name) = try pop(), case .string(let module) = try pop() else {
                throw refusal("a STACK_GLOBAL without two strings")
            }
            stack.append(try global(module: module, name: name))
        case UInt8(ascii: "R"), 0x81:  // REDUCE, NEWOBJ
            let arguments = try pop()
            stack.append(try construct(try pop(), arguments: try elements(ofTuple: arguments)))
        case 0x92:  // NEWOBJ_EX
            _ = try pop()
            let arguments = try pop()
            stack.append(try construct(try pop(), arguments: try elements(ofTuple: arguments)))
        case UInt8(ascii: "i"):  // INST
            let callee = try global(module: try line(), name: try line())
            stack.append(try construct(callee, arguments: try popMark()))
        case UInt8(ascii: "o"):  // OBJ
            let values = try popMark()
            guard let callee = values.first else { throw refusal("an OBJ without a class") }
            stack.append(try construct(callee, arguments: Array(values.dropFirst())))
        case UInt8(ascii: "b"):  // BUILD: attributes, which nothing here keeps
            _ = try pop()
            _ = try top()
        case UInt8(ascii: "Q"): stack.append(try storage(try elements(ofTuple: try pop())))  // BINPERSID

        case UInt8(ascii: "S"): throw refusal(.unsupported, "the instruction STRING of protocol 0")
        case UInt8(ascii: "V"): throw refusal(.unsupported, "the instruction UNICODE of protocol 0")
        case UInt8(ascii: "P"): throw refusal(.unsupported, "the instruction PERSID of protocol 0")
        case 0x82: throw refusal(.unsupported, "the instruction EXT1, which needs a registry outside the file")
        case 0x83: throw refusal(.unsupported, "the instruction EXT2, which needs a registry outside the file")
        case 0x84: throw refusal(.unsupported, "the instruction EXT4, which needs a registry outside the file")
        case 0x97: throw refusal(.unsupported, "the instruction NEXT_BUFFER, which needs buffers outside the file")
        case 0x98: throw refusal(.unsupported, "the instruction READONLY_BUFFER, which needs buffers outside the file")
        default: throw refusal("0x\(String(opcode, radix: 16)) is no instruction")
        }
    }

    // MARK: Arguments of instructions

    private mutating func integer<Value: FixedWidthInteger & BitwiseCopyable>(
        _ type: Value.Type
    ) throws(FormatError) -> Value {
        guard bytes.count - position >= MemoryLayout<Value>.size else { throw refusal("it ends before its STOP") }
        defer { position += MemoryLayout<Value>.size }
        return bytes.littleEndian(type, at: position)
    }

    /// A length or an index that fits an Int.
    private mutating func length<Value: FixedWidthInteger & BitwiseCopyable>(
        _ type: Value.Type
    ) throws(FormatError) -> Int {
        guard let value = Int(exactly: try integer(type)), value >= 0 else { throw refusal("a length out of range") }
        return value
    }

    private mutating func take(_ byteCount: Int) throws(FormatError) -> ArraySlice<UInt8> {
        guard byteCount <= bytes.count - position else {
            throw refusal("a value of \(byteCount) bytes runs past the end")
        }
        defer { position += byteCount }
        return bytes[position..<position + byteCount]
    }

    /// A line of text, without its newline.
    private mutating func line() throws(FormatError) -> String {
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) else {
            throw refusal("a line without an end")
        }
        defer { position = end + 1 }
        guard let text = String(validating: bytes[position..<end], as: UTF8.self) else {
            throw refusal("a line is not UTF-8")
        }
        return text
    }

    private mutating func decimalIndex() throws(FormatError) -> Int {
        guard let index = Int(try line()), index >= 0 else { throw refusal("a memo index that is not a number") }
        return index
    }

    private mutating func pushDecimal() throws(FormatError) {
        var text = try line()
        if text.utf8.last == UInt8(ascii: "L") { text.removeLast() }
        // INT writes booleans as 00 and 01.
        if text == "00" || text == "01" {
            stack.append(.bool(text == "01"))
        } else if let value = Int64(text) {
            stack.append(.int(value))
        } else if text.utf8.allSatisfy({ $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }) {
            stack.append(.bigInteger)
        } else {
            throw refusal("an integer that is not a number")
        }
    }

    /// A two's complement integer of any length, little-endian.
    private mutating func pushLong(byteCount: Int) throws(FormatError) {
        let digits = try take(byteCount)
        guard byteCount <= 8 else { return stack.append(.bigInteger) }
        let magnitude = digits.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        let unused = UInt64(64 - 8 * byteCount)
        stack.append(.int(byteCount == 0 ? 0 : Int64(bitPattern: magnitude << unused) >> Int64(unused)))
    }

    private mutating func pushString(byteCount: Int) throws(FormatError) {
        let raw = try take(byteCount)
        if let text = String(validating: raw, as: UTF8.self) {
            stack.append(.string(text))
        } else {
            // Python writes lone surrogates as three bytes each ("surrogatepass"), which no String can hold.
            stack.append(.bytes)
        }
    }

    /// A str of Python 2, which may be text or not.
    private mutating func pushOldString(byteCount: Int) throws(FormatError) {
        stack.append(String(validating: try take(byteCount), as: UTF8.self).map { .string($0) } ?? .bytes)
    }

    private mutating func pushBytes(byteCount: Int) throws(FormatError) {
        _ = try take(byteCount)
        stack.append(.bytes)
    }

    // MARK: Stack, memo and containers

    private func top() throws(FormatError) -> PickleValue {
        guard stack.count > marks.last ?? 0 else { throw refusal("the stack is empty") }
        return stack[stack.count - 1]
    }

    private mutating func pop() throws(FormatError) -> PickleValue {
        let value = try top()
        stack.removeLast()
        return value
    }

    private mutating func pop(count: Int) throws(FormatError) -> [PickleValue] {
        guard stack.count - (marks.last ?? 0) >= count else { throw refusal("the stack is empty") }
        let values = Array(stack.suffix(count))
        stack.removeLast(count)
        return values
    }

    /// The values above the last mark, which goes too.
    private mutating func popMark() throws(FormatError) -> [PickleValue] {
        guard let mark = marks.popLast() else { throw refusal("no mark is set") }
        let values = Array(stack[mark...])
        stack.removeLast(stack.count - mark)
        return values
    }

    /// POP takes a mark where one is on top, as in Python.
    private mutating func discard() throws(FormatError) {
        if marks.last == stack.count {
            marks.removeLast()
        } else {
            _ = try pop()
        }
    }

    private mutating func put(_ index: Int) throws(FormatError) {
        let value = try top()
        guard index < PickleReader.maximumMemo, index <= memo.count + PickleReader.maximumMemoGap else {
            throw refusal(.limit, "memo index \(index) after \(memo.count) entries")
        }
        while memo.count <= index { memo.append(nil) }
        if memo[index] == nil { memoized += 1 }
        memo[index] = value
    }

    private func get(_ index: Int) throws(FormatError) -> PickleValue {
        guard index < memo.count, let value = memo[index] else { throw refusal("memo entry \(index) was never set") }
        return value
    }

    /// A new container, as an index.
    mutating func container(_ elements: [PickleValue]) throws(FormatError) -> Int {
        try take(values: elements.count + 1)
        heap.containers.append(elements)
        return heap.containers.count - 1
    }

    private mutating func take(values count: Int) throws(FormatError) {
        guard heap.take(count) else {
            throw refusal(.limit, "more than \(PickleHeap.maximumValues) values")
        }
    }

    private func pairs(_ values: [PickleValue]) throws(FormatError) -> [PickleValue] {
        guard values.count.isMultiple(of: 2) else { throw refusal("a key without a value") }
        return values
    }

    /// Appends to the list or set on top of the stack.
    private mutating func append(_ values: [PickleValue]) throws(FormatError) {
        switch try top() {
        case .list(let index), .set(let index): try extend(index, with: values)
        // Of an unknown class, whose elements are passed over with it.
        case .opaque: break
        default: throw refusal("an append to a value that is no list")
        }
    }

    /// Sets keys of the dictionary on top of the stack.
    private mutating func set(_ items: [PickleValue]) throws(FormatError) {
        switch try top() {
        case .dict(let index): try extend(index, with: items)
        case .opaque: break
        default: throw refusal("a key set in a value that is no dictionary")
        }
    }

    private mutating func extend(_ container: Int, with values: [PickleValue]) throws(FormatError) {
        try take(values: values.count)
        heap.containers[container].append(contentsOf: values)
    }

    func elements(ofTuple value: PickleValue) throws(FormatError) -> [PickleValue] {
        guard case .tuple(let index) = value else { throw refusal("arguments that are no tuple") }
        return heap.containers[index]
    }

    private mutating func global(module: String, name: String) throws(FormatError) -> PickleValue {
        guard module.utf8.count + name.utf8.count <= PickleReader.maximumNameLength else {
            throw refusal(.limit, "a global whose name is over \(PickleReader.maximumNameLength) bytes")
        }
        return .global(heap.intern("\(module) \(name)"))
    }
}
