import TensorFormats
import Testing

/// Pickles written by hand. A string stands for its bytes in Latin-1.
func pickled(_ parts: [UInt8]...) -> [UInt8] { parts.flatMap { $0 } + [0x2e] }

private func op(_ text: String) -> [UInt8] { text.unicodeScalars.map { UInt8($0.value) } }

private func text(_ value: String) -> [UInt8] { op("X") + le(UInt32(value.utf8.count)) + Array(value.utf8) }

private func int(_ value: Int64) -> [UInt8] { [0x8a, 8] + le(value) }

private func tuple(_ values: [UInt8]...) -> [UInt8] { op("(") + values.flatMap { $0 } + op("t") }

private func storage(_ key: String = "0", elements: Int64 = 4, type: String = "FloatStorage") -> [UInt8] {
    tuple(text("storage"), op("ctorch\n\(type)\n"), text(key), text("cpu"), int(elements)) + op("Q")
}

private func tensor(
    offset: Int64 = 0, shape: [Int64] = [4], strides: [Int64] = [1], storage: [UInt8] = storage()
) -> [UInt8] {
    op("ctorch._utils\n_rebuild_tensor_v2\n")
        + tuple(
            storage, int(offset), op("(") + shape.flatMap(int) + op("t"), op("(") + strides.flatMap(int) + op("t"),
            [0x89], op("ccollections\nOrderedDict\n)R")) + op("R")
}

/// A PyTorch file around a pickle, with one storage of four floats.
func torchFile(_ pickle: [UInt8], extra: [ArchiveBuilder.Entry] = []) -> [UInt8] {
    ArchiveBuilder(
        [
            .init(name: "archive/data.pkl", data: pickle),
            .init(name: "archive/data/0", data: [UInt8](repeating: 1, count: 16)),
        ]
            + extra
    ).build()
}

private func read(_ pickle: [UInt8], extra: [ArchiveBuilder.Entry] = []) throws -> TensorFile {
    try PyTorchFile.read(MemoryBytes(torchFile(pickle, extra: extra), path: "x.pt"))
}

@Suite struct PickleTests {
    @Test func tensorByHand() throws {
        let file = try read(pickled(op("}"), text("w"), tensor(offset: 1, shape: [3]), op("s")))
        #expect(brokenInvariants(file) == [])
        #expect(file.tensors == [.init(name: "w", storage: 0, offset: 4, dtype: .f32, shape: [3], strides: nil)])
        #expect(file.storages.count == 1)
        #expect(file.storages[0].dtype == .f32)
        #expect(file.storages[0].shape == [4])
    }

    /// Every instruction that builds, reads or drops a value, in one pickle each.
    @Test func instructions() throws {
        for (name, setup) in [
            ("INT", op("I12\nI01\nI-5\n000")), ("LONG", op("L123L\n0") + op("L99999999999999999999999L\n0")),
            ("FLOAT", op("F1.5\n0")), ("BINFLOAT", op("G") + [UInt8](repeating: 0, count: 8) + op("0")),
            ("BININT", op("J") + le(Int32(-1)) + op("K\u{1}M\u{1}\u{2}000")),
            (
                "LONG1",
                [0x8a, 0] + op("0") + [0x8a, 1, 0xff] + op("0") + [0x8a, 9] + [UInt8](repeating: 1, count: 9) + op("0")
            ),
            ("LONG4", [0x8b] + le(Int32(2)) + [1, 2] + op("0")),
            (
                "strings",
                op("U\u{1}aT") + le(Int32(1)) + op("b00") + [0x8c, 1, 0x61, 0x30, 0x8d] + le(UInt64(1)) + op("c0")
            ),
            ("lone surrogate", op("X") + le(UInt32(3)) + [0xed, 0xa0, 0x80] + op("0")),
            ("bytes", op("B") + le(UInt32(1)) + [9] + op("C\u{1}\u{9}00") + [0x8e] + le(UInt64(0)) + op("0")),
            ("bytearray", [0x96] + le(UInt64(1)) + op("x0")),
            (
                "containers",
                op("](K\u{1}K\u{2}e(K\u{1}la0}(NNu(NNdNNs00)0") + [0x8f] + op("(N") + [0x90] + op("0(N") + [0x91]
                    + op("0")
            ),
            ("tuples", op("N") + [0x85] + op("0NN") + [0x86] + op("0NNN") + [0x87] + op("0")),
            ("marks", op("(NN1(0N200")),
            (
                "memo",
                op("Nq\u{0}0h\u{0}p1\n0g1\n0Nr") + le(UInt32(2)) + op("0j") + le(UInt32(2)) + op("0N") + [0x94]
                    + op("0")
            ),
            ("globals", op("cos\nsystem\n0") + text("os") + text("system") + [0x93] + op("0")),
            (
                "objects",
                op("(ifoo\nBar\n0(cfoo\nBar\nNo0cfoo\nBar\n)") + [0x81] + op("Nb0cfoo\nBar\n)}") + [0x92] + op("0")
            ),
            ("frame", [0x80, 4, 0x95] + le(UInt64(1)) + op("N0")),
            ("set", op("c__builtin__\nset\n(]tR0cbuiltins\nfrozenset\n)R0")),
            (
                "dictionaries",
                op("ccollections\nOrderedDict\n(]](NNeatR0ccollections\ndefaultdict\n(cbuiltins\nlist\ntR0")
            ),
            ("encode", op("c_codecs\nencode\n(") + text("\u{e9}") + text("latin1") + op("tR0")),
        ] {
            #expect(throws: Never.self, "\(name)") {
                let file = try read(pickled(setup, tensor()))
                #expect(file.tensors.map(\.name) == ["tensor"], "\(name)")
            }
        }
    }

    @Test(
        arguments: [
            ("nothing", []), ("STOP on an empty stack", pickled()), ("no STOP", op("N")),
            ("unknown instruction", [0xff]),
            ("POP of nothing", op("0")), ("TUPLE without a mark", op("Nt.")),
            ("TUPLE2 below a mark", op("NN(") + [0x86]),
            ("memo never set", op("h\u{5}")), ("append to a number", op("K\u{1}Na")), ("odd items", op("}(Nu")),
            ("append to a dictionary", op("}Na")), ("key of a list", op("]NNs")),
            ("call of a number", op("K\u{1})R")), ("arguments no tuple", op("cos\nsystem\nNR")),
            ("string past the end", op("X") + le(UInt32.max)), ("string of 2^63", [0x8d] + le(UInt64.max)),
            ("bytes past the end", [0x8e] + le(UInt64(1) << 62)), ("negative LONG4", [0x8b] + le(Int32(-1))),
            ("frame past the end", [0x95] + le(UInt64.max)), ("GLOBAL without lines", op("cos")),
            ("STACK_GLOBAL of numbers", op("NN") + [0x93]), ("OBJ of nothing", op("(o")),
            ("GLOBAL not UTF-8", op("c\u{ff}\n\n")),
            ("INT of letters", op("Ix\n")), ("FLOAT of letters", op("Fx\n")), ("GET of letters", op("gx\n")),
            ("storage of a list", pickled(op("(NNNNNtQ"))), ("negative storage", pickled(storage(elements: -1))),
            ("huge storage", pickled(storage(elements: .max, type: "DoubleStorage"))),
            ("storage of two kinds", pickled(storage(), op("0"), storage(type: "HalfStorage"))),
            ("storage not in the zip", pickled(storage("7"))),
            ("storage longer than its entry", pickled(storage(elements: 5))),
            ("storage called ..", pickled(storage("../data.pkl"))),
            ("tensor of numbers", pickled(op("ctorch._utils\n_rebuild_tensor_v2\n(NNNNtR"))),
            ("tensor without arguments", pickled(op("ctorch._utils\n_rebuild_tensor_v2\n)R"))),
            ("strides missing", pickled(tensor(strides: []))),
        ] as [(String, [UInt8])])
    func malformed(name: String, pickle: [UInt8]) throws {
        let error = #expect(throws: FormatError.self, "\(name)") { try read(pickle) }
        #expect(error?.code == .malformed || error?.code == .unsupported, "\(name): \(error?.description ?? "")")
        #expect(error?.description.contains("\n") == false)
    }

    /// Views that leave their storage, by every number that can do it.
    @Test(
        arguments: [
            (0, [5], [1]), (1, [4], [1]), (-1, [1], [1]), (0, [-1], [1]), (0, [2], [-1]), (0, [2], [4]),
            (0, [2, 2], [2, 2]),
            (.max, [1], [1]), (0, [.max], [.max]), (0, [.max, .max], [0, 0]), (0, [.max], [0]), (4, [], []),
            (2, [2, 2], [1, .max]),
        ] as [(Int64, [Int64], [Int64])])
    func viewsOutside(offset: Int64, shape: [Int64], strides: [Int64]) throws {
        let error = #expect(throws: FormatError.self) {
            try read(pickled(op("]"), tensor(offset: offset, shape: shape, strides: strides), op("a")))
        }
        #expect(error?.code == .malformed)
        #expect(error?.tensor == "0")
    }

    @Test(
        arguments: [
            (0, [4], [1], true), (0, [2, 2], [2, 1], true), (0, [2, 1, 2], [2, 99, 1], true),
            (0, [2, 2], [1, 2], false),
            (3, [], [], true), (0, [100, 4], [0, 1], false), (99, [0, 3], [7, 1], true), (0, [2], [3], false),
        ] as [(Int64, [Int64], [Int64], Bool)])
    func viewsInside(offset: Int64, shape: [Int64], strides: [Int64], contiguous: Bool) throws {
        let file = try read(pickled(tensor(offset: offset, shape: shape, strides: strides)))
        #expect(brokenInvariants(file) == [])
        #expect((file.tensors[0].strides == nil) == contiguous)
    }

    /// Duplicate keys: the last value counts, as in Python. Colliding ways: numbered.
    @Test func names() throws {
        let half = tensor(shape: [2])
        let twice = try read(pickled(op("}("), text("a"), tensor(), text("a"), half, op("u")))
        #expect(twice.tensors.map(\.name) == ["a"])
        #expect(twice.tensors[0].shape == [2])
        let items = text("a.b") + half + text("a") + op("}") + text("b") + tensor() + op("s") + text("a.b#2") + tensor()
        let colliding = try read(pickled(op("}("), items, op("u")))
        #expect(colliding.tensors.map(\.name) == ["a.b", "a.b#2", "a.b#3"])
        #expect(colliding.tensors[2].shape == [4])
    }

    /// Nothing is executed, whatever it is called; what was skipped is told.
    @Test func unknownGlobalsAreSkipped() throws {
        let call = op("cos\nsystem\n(") + text("true") + op("tR")
        let file = try read(pickled(op("]("), call, tensor(), op("cbuiltins\neval\n)R"), op("e")))
        #expect(file.tensors.map(\.name) == ["1"])
        #expect(file.skipped == ["builtins eval", "os system"])
    }

    @Test(arguments: [
        ("S", "STRING"), ("V", "UNICODE"), ("P", "PERSID"), ("\u{82}", "EXT1"), ("\u{83}", "EXT2"),
        ("\u{84}", "EXT4"), ("\u{97}", "NEXT_BUFFER"), ("\u{98}", "READONLY_BUFFER"),
    ])
    func refusedInstructionsAreNamed(code: String, name: String) throws {
        let error = #expect(throws: FormatError.self) { try read(op(code)) }
        #expect(error?.code == .unsupported)
        #expect(error?.reason.contains(name) == true)
    }

    /// Pickles that cost an unwary reader its stack, memory or years.
    static let bombs: [(String, [UInt8], FormatError.Code?)] = {
        // A list of two references to the list before it, 60 levels deep, on a tensor.
        var doubling = op("](") + tensor() + op("eq\u{0}")
        for level in 0..<60 {
            doubling += op("](h") + [UInt8(level)] + op("h") + [UInt8(level)] + op("eq") + [UInt8(level + 1)]
        }
        let deep = [UInt8](repeating: 0x5d, count: 100_000) + [UInt8](repeating: 0x61, count: 99_999)
        let deepDictionary =
            op("K\u{0}q\u{0}0") + (0..<2000).flatMap { _ in op("}h\u{0}") } + tensor()
            + [UInt8](repeating: 0x73, count: 2000)
        let cycle = op("]q\u{0}h\u{0}ah\u{0}a") + tensor() + op("a")
        let longName =
            op("}(") + text(String(repeating: "n", count: 100_000)) + op("](") + tensor() + op("q\u{0}")
            + (0..<2000).flatMap { _ in op("h\u{0}") } + op("eu")
        let longText = text(String(repeating: "k", count: 2_000_000)) + op("q\u{0}0")
        let sameKey = longText + op("}(") + (0..<2000).flatMap { _ in op("h\u{0}N") } + op("u")
        let sameStorage =
            longText + op("ctorch\nFloatStorage\nq\u{1}0(") + text("storage") + op("h\u{1}h\u{0}NK\u{1}tQ")
        let sameTensor = op("(") + tensor() + op("q\u{0}") + (0..<550_000).flatMap { _ in op("h\u{0}") } + op("l")
        let copies =
            op("(") + [UInt8](repeating: 0x4e, count: 500_000) + op("dq\u{0}0ccollections\nOrderedDict\nq\u{1}0")
            + (0..<20).flatMap { _ in op("h\u{1}(h\u{0}tR") }
        let wide = tensor(shape: Array(repeating: 1, count: 65), strides: Array(repeating: 1, count: 65))
        return [
            ("doubling", pickled(doubling), .limit),
            ("deep lists", pickled(deep), .limit),
            ("deep dictionaries", pickled(deepDictionary), .limit),
            ("a list inside itself", pickled(cycle), nil),
            ("names without end", pickled(longName), .limit),
            ("marks", [UInt8](repeating: 0x28, count: 1_100_000), .limit),
            ("stack", [UInt8](repeating: 0x4e, count: 1_100_000), .limit),
            ("copies of a dictionary", pickled(copies), .limit),
            ("memo far away", op("Nr") + le(UInt32.max), .limit),
            ("memo at 8 million", op("Nr") + le(UInt32(8_000_000)), .limit),
            ("one long key again and again", pickled(sameKey), .limit),
            ("a storage's key of two megabytes", pickled(sameStorage), .limit),
            ("one tensor half a million times", pickled(sameTensor), .limit),
            ("65 dimensions", pickled(wide), .limit),
            ("global of a megabyte", op("c") + [UInt8](repeating: 0x61, count: 1 << 20) + op("\nb\n"), .limit),
        ]
    }()

    @Test(arguments: bombs)
    func bombsCostLittle(name: String, pickle: [UInt8], code: FormatError.Code?) throws {
        var failure: FormatError?
        let took = ContinuousClock().measure {
            do throws(FormatError) {
                _ = try PyTorchFile.read(MemoryBytes(torchFile(pickle), path: "x.pt"))
            } catch {
                failure = error
            }
        }
        #expect(failure?.code == code, "\(name): \(failure?.description ?? "accepted")")
        #expect(took < .seconds(60), "\(name) took \(took)")
    }
}
