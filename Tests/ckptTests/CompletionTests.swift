import Foundation
import TensorFormats
import TestSupport
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What shells are told while a line is typed, and what bash makes of it.
@Suite struct CompletionTests {
    /// Steps 1 to 3 of run `out`, tag `best` at the first, probe `sums`, and run `big`, whose one snapshot has 400 tensors.
    private static let shared: Result<Playground, any Error> = Result {
        let playground = try Playground(steps: 3)
        var tensors = (0..<399).map { SafetensorsFixture.Tensor("layers.\($0)", .u8, [1], [UInt8($0 & 255)]) }
        // In a shell that expands it, this name removes the store.
        tensors.append(SafetensorsFixture.Tensor("other$(rm -r \(playground.store))", .u8, [1], [1]))
        try FileTree.write(SafetensorsFixture(tensors).bytes, to: playground.directory.path + "/big.safetensors")
        try FileTree.write("{\"id\": \"1\", \"input_ids\": [1, 2, 3], \"completion_start\": 1}\n", to: playground.directory.path + "/sums.jsonl")
        for arguments in [
            ["ingest", playground.directory.path + "/big.safetensors", "--run", "big", "--step", "7"], ["tag", "best", "out@1"],
            ["probe", "add", "sums", playground.directory.path + "/sums.jsonl"],
        ] {
            let outcome = try Command.run(arguments + ["--store", playground.store])
            try #require(outcome.status == 0, "\(outcome)")
        }
        return playground
    }

    /// The candidates for the last of `words`, `argument` of the command that they begin with.
    private func candidates(
        _ argument: String, _ words: [String], depth: Int = 1, shell: String? = nil, store: String? = nil
    ) throws -> [String] {
        let store = try store ?? CompletionTests.shared.get().store
        let outcome = try Command.run(
            ["---completion"] + words.prefix(depth) + ["--", argument, "\(words.count)", "\(words.last!.count)", "ckpt"] + words,
            environment: ["CKPT_STORE": store].merging(shell.map { ["SAP_SHELL": $0] } ?? [:]) { $1 })
        #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
        return outcome.output.split(separator: "\n").map(String.init)
    }

    @Test func snapshots() throws {
        let all = ["big", "out", "best", "big@7", "out@3", "out@2", "out@1"]
        #expect(try candidates("positional@0", ["show", ""]) == all)
        #expect(try candidates("positional@0", ["show", "out@"]) == ["out@3", "out@2", "out@1"])
        #expect(try candidates("positional@0", ["show", "out~"]) == ["out~0", "out~1", "out~2"])
        #expect(try candidates("positional@0", ["show", "'out@2"]) == ["out@2"])
        #expect(try candidates("positional@0", ["show", "nothing"]) == [])
        #expect(try candidates("--subtract", ["merge", "big", "--subtract", "be"]) == ["best"])
        #expect(try candidates("--weak", ["train", "--weak", "out@1,a"]) == ["out@1,auto"])
        // Where a path will do, shells offer files too.
        #expect(try candidates("positional@1", ["diff", "out@1", "b"]) == ["big", "best", "big@7", "./"])
        #expect(try candidates("--data", ["eval", "out", "--data", ""]) == ["sums", "./"])
    }

    @Test func ids() throws {
        let store = try CompletionTests.shared.get().store
        let id = try #require((Command.run(["show", "out@2", "--json", "--store", store]).json() as? [String: Any])?["id"] as? String)
        #expect(try candidates("positional@0", ["show", String(id.prefix(5))]) == [String(id.prefix(12))])
        #expect(try candidates("positional@0", ["show", String(id.prefix(20))]) == [id])
    }

    @Test func otherNames() throws {
        #expect(try candidates("positional@0", ["log", ""]) == ["big", "out"])
        #expect(try candidates("--run", ["prune", "--run", "o"]) == ["out"])
        #expect(try candidates("positional@0", ["tag", "-d", ""]) == ["best"])
        #expect(try candidates("positional@0", ["tag", "--metric", "acc=1", "out"]) == ["out", "out@3", "out@2", "out@1"])
        #expect(try candidates("--probe", ["gap", "out", "--probe", ""]) == ["sums"])
        #expect(try candidates("positional@0", ["probe", "show", "s"], depth: 2) == ["sums"])
    }

    @Test func tensors() throws {
        #expect(try candidates("positional@0", ["cat", "out@"]) == ["out@3:", "out@2:", "out@1:"])
        let tensors = try candidates("positional@0", ["cat", "best:"])
        #expect(tensors.count == 4 && tensors.allSatisfy { $0.hasPrefix("best:") })
        #expect(try candidates("positional@0", ["cat", "big:layers.7"]).count == 11)
        #expect(try candidates("positional@0", ["cat", "nothing:"]) == [])
    }

    /// Of too many the first are told, and one that keeps the shell from typing ahead what only those have in common.
    @Test func limit() throws {
        let tensors = try candidates("positional@0", ["cat", "big:"])
        #expect(tensors.count == 301 && tensors.dropLast().allSatisfy { $0.hasPrefix("big:layers.") })
        #expect(tensors.last?.hasPrefix("big:other") == true, "\(tensors.last ?? "")")
    }

    @Test func whichStore() throws {
        let playground = try CompletionTests.shared.get()
        let empty = try Playground(steps: 0, named: "it's empty")
        #expect(try candidates("positional@0", ["show", ""], store: empty.store) == [])
        #expect(try candidates("positional@0", ["show", "--store", playground.store, "bi"], store: empty.store) == ["big", "big@7"])
        #expect(try candidates("positional@0", ["show", "--store=\(playground.store)", "bi"], store: "/nowhere") == ["big", "big@7"])
        let quoted = "\"\(empty.store)\""
        #expect(try candidates("positional@0", ["show", "--store", quoted, "bi"]) == [])
        // No store, and what is none.
        #expect(try candidates("positional@0", ["show", ""], store: "/nowhere") == [])
        #expect(try candidates("positional@0", ["show", ""], store: playground.source) == [])
    }

    @Test func eachShell() throws {
        let zsh = try candidates("positional@0", ["cat", "out@1"], shell: "zsh")
        #expect(zsh.first == "out@1\\:")
        #expect(try candidates("positional@0", ["show", "out@2"], shell: "zsh").first?.hasPrefix("out@2:") == true)
        #expect(try candidates("positional@0", ["show", "out@2"], shell: "fish").first?.hasPrefix("out@2\t") == true)
    }

    // MARK: - The scripts

    /// Where `program` is, if it is installed.
    private static func found(_ program: String) -> String? {
        let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
        return path.split(separator: ":").map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }

    private func run(_ program: String, _ arguments: [String], in directory: String, store: String = "") throws -> Command.Outcome {
        // The scripts run the command by the name that is typed.
        let path = (Command.path as NSString).deletingLastPathComponent + ":" + (ProcessInfo.processInfo.environment["PATH"] ?? "")
        return try Command.start(arguments, program: program, in: directory, environment: ["PATH": path, "CKPT_STORE": store]).wait()
    }

    private func script(_ shell: String, in directory: TemporaryDirectory) throws -> String {
        let outcome = try Command.run(["--generate-completion-script", shell])
        try #require(outcome.status == 0 && outcome.errors == "")
        let path = directory.path + "/script"
        try FileTree.write(outcome.output, to: path)
        return path
    }

    @Test(arguments: ["bash", "zsh", "fish"]) func scriptsAreWellFormed(_ shell: String) throws {
        let directory = try TemporaryDirectory()
        let path = try script(shell, in: directory)
        // Ours has found its place.
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(text.contains("# As the function above"), "\(shell)")
        guard let program = CompletionTests.found(shell) else { return }
        let outcome = try run(program, ["-n", path], in: directory.path)
        #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
    }

    @Test func noSuchShell() throws {
        #expect(try Command.run(["--generate-completion-script", "tcsh"]).status == 64)
    }

    /// What bash offers for the last of `words`, as it parts them, in the place of what it gives as the word.
    private func bash(_ line: String, _ words: [String], replacing word: String) throws -> [String] {
        guard let program = CompletionTests.found("bash") else { return [] }
        let playground = try CompletionTests.shared.get()
        let directory = try TemporaryDirectory()
        let path = try script("bash", in: directory)
        try FileTree.write("", to: directory.path + "/files/bigger file")
        try FileTree.write("", to: directory.path + "/files/own/file")
        let call = """
            source "$0"; line=$1 word=$2; shift 2
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE=$line COMP_POINT=${#line}
            __ckpt_complete ckpt "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\\n' "${COMPREPLY[@]}"
            [ -z "$(trap -p RETURN)" ]
            """
        let outcome = try run(program, ["-c", call, path, line, word] + words, in: directory.path + "/files", store: playground.store)
        #expect(outcome.status == 0 && outcome.errors == "", "\(outcome)")
        return outcome.output.split(separator: "\n").map(String.init)
    }

    @Test(.enabled(if: found("bash") != nil)) func bashWords() throws {
        #expect(try bash("ckpt sho", ["ckpt", "sho"], replacing: "sho") == ["show"])
        // bash parts words at @, : and =, and keeps an @ that a word ends with.
        #expect(try bash("ckpt show out@2", ["ckpt", "show", "out", "@", "2"], replacing: "@2") == ["@2"])
        #expect(try bash("ckpt diff out@2 out@", ["ckpt", "diff", "out", "@", "2", "out", "@"], replacing: "@") == ["@3", "@2", "@1"])
        #expect(try bash("ckpt cat out@2", ["ckpt", "cat", "out", "@", "2"], replacing: "@2") == ["@2:"])
        #expect(try bash("ckpt cat big:layers.39", ["ckpt", "cat", "big", ":", "layers.39"], replacing: "layers.39").count == 10)
        #expect(try bash("ckpt cat best:", ["ckpt", "cat", "best", ":", ""], replacing: "").count == 4)
        #expect(try bash("ckpt gap out --run=o", ["ckpt", "gap", "out", "--run", "=", "o"], replacing: "o") == ["out"])
        #expect(try bash("ckpt show 'out@2", ["ckpt", "show", "'out@2"], replacing: "out@2") == ["out@2"])
        #expect(try bash("ckpt diff --by k", ["ckpt", "diff", "--by", "k"], replacing: "k") == ["kind"])
    }

    @Test(.enabled(if: found("bash") != nil)) func bashFiles() throws {
        #expect(try bash("ckpt diff big", ["ckpt", "diff", "big"], replacing: "big").sorted() == ["big", "big@7", "bigger\\ file"])
        // Without a snapshot of such a name, as files: bash quotes them itself.
        #expect(try bash("ckpt diff ow", ["ckpt", "diff", "ow"], replacing: "ow") == ["own"])
        #expect(try bash("ckpt show bigg", ["ckpt", "show", "bigg"], replacing: "bigg") == [])
    }

    /// A name is never run, nor does it run once it stands in the line.
    @Test(.enabled(if: found("bash") != nil)) func hostileNames() throws {
        let offered = try bash("ckpt cat big:o", ["ckpt", "cat", "big", ":", "o"], replacing: "o")
        #expect(offered.count == 1 && offered[0].hasPrefix("other\\$\\(rm"), "\(offered)")
        #expect(try candidates("positional@0", ["log", ""]) == ["big", "out"])
    }
}
