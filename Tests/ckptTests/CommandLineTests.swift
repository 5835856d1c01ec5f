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

/// The command line as scripts see it: what it prints, where, and how it exits.
@Suite struct CommandLineTests {
    /// A store with a short history, shared by the tests that only read it.
    private static let shared: Result<Playground, any Error> = Result { try Playground(steps: 3) }

    private static let commands = [
        "init", "stats", "verify", "compact", "ingest", "log", "show", "diff", "rm", "tag", "pin", "unpin", "export", "path", "cat",
        "entropy", "gap",
    ]

    @Test(arguments: commands) func help(_ command: String) throws {
        for arguments in [[command, "--help"], [command, "-h"], ["help", command]] {
            let outcome = try Command.run(arguments)
            #expect(outcome.status == 0)
            #expect(outcome.errors == "")
            #expect(outcome.output.contains("USAGE: ckpt \(command)"))
            #expect(outcome.output.contains("EXIT STATUS"))
        }
        // Nothing else but its options: --json and --store are everywhere.
        let text = try Command.run([command, "--help"]).output
        #expect(text.contains("--json") && text.contains("--store"))
    }

    @Test func overviewAndVersion() throws {
        let help = try Command.run(["--help"])
        #expect(help.status == 0)
        for command in CommandLineTests.commands { #expect(help.output.contains(" \(command) ")) }
        let version = try Command.run(["--version"])
        #expect(version.status == 0 && version.output.split(separator: ".").count == 3)
    }

    @Test(arguments: [
        (["injest", "x"], "ckpt ingest"), (["stat"], "ckpt stats"), (["shw"], "ckpt show"), (["exprot"], "ckpt export"),
        (["frobnicate"], "ckpt help"),
    ]) func misspelt(_ arguments: [String], _ hint: String) throws {
        let outcome = try Command.run(arguments)
        #expect(outcome.status == 64)
        #expect(outcome.output == "" && outcome.errorLines.count == 1 && outcome.errors.contains(hint), "\(outcome)")
    }

    @Test(arguments: [
        ["ingest"], ["ingest", "a", "b", "--step", "3"], ["ingest", "a", "--step", "-3"], ["ingest", "a", "--step", "x"],
        ["ingest", "a", "--pack", "zip"], ["ingest", "a", "--optimizer-keep", "0"], ["show"], ["show", "a", "b"], ["diff", "a"], ["diff", "a", "b", "--limit", "-1"],
        ["diff", "a", "b", "--by", "size"], ["tag", "a"], ["tag", "-d"], ["tag", "-d", "a", "b"], ["log", "--nonsense"],
        ["cat", "r"], ["cat", ":x"], ["export", "r"], ["stats", "--lock-timeout", "-1"], ["verify", "x"], ["--json"], ["rm"],
    ]) func usage(_ arguments: [String]) throws {
        let playground = try CommandLineTests.shared.get()
        let outcome = try Command.run(arguments, environment: ["CKPT_STORE": playground.store])
        #expect(outcome.status == 64, "\(outcome)")
        #expect(outcome.output == "", "\(outcome.output)")
        let start = arguments.contains("--json") ? "{\"message_type\":\"exit_error\"" : "Error: "
        #expect(outcome.errors.hasPrefix(start) || outcome.errors.hasPrefix("ckpt: "), "\(outcome.errors)")
    }

    @Test(arguments: [
        ["show", "nothing"], ["log", "nothing"], ["rm", "out@9"], ["diff", "out", "nothing"], ["export", "out~7", "/nowhere/x"],
        ["cat", "out:nothing"], ["cat", "nothing:x"], ["path", "nothing"], ["pin", "nothing"], ["unpin", "nothing"],
        ["tag", "t", "nothing"], ["tag", "-d", "nothing"],
    ]) func unknownNames(_ arguments: [String]) throws {
        try expectFailure(66, arguments, CommandLineTests.shared.get().store)
    }

    @Test(arguments: [
        ["show", "r"], ["log"], ["rm", "r"], ["export", "r", "x"], ["cat", "r:t"], ["path", "r"], ["pin", "r"], ["unpin", "r"],
        ["tag"], ["stats"], ["verify"], ["compact"], ["ingest", "/etc/hostname"],
    ]) func noStore(_ arguments: [String]) throws {
        let directory = try TemporaryDirectory()
        try expectFailure(66, arguments, directory.path)
        let missing = try Command.run(arguments, in: directory.path)
        #expect(missing.status == 66 && missing.errors.contains("ckpt init"), "\(missing)")
    }

    @Test(arguments: [["ingest", "/nowhere/at/all"], ["ingest", "/dev/null"], ["tag", "out", "out@1"], ["tag", "a@b", "out@1"]])
    func badInput(_ arguments: [String]) throws {
        try expectFailure(65, arguments, CommandLineTests.shared.get().store)
    }

    /// One line on stderr, nothing on stdout; with --json the line is an `exit_error`.
    private func expectFailure(
        _ status: Int32, _ arguments: [String], _ store: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let plain = try Command.run(arguments + ["--store", store])
        #expect(plain.status == status, "\(plain)", sourceLocation: sourceLocation)
        #expect(plain.output == "" && plain.errorLines.count == 1 && plain.errors.hasPrefix("ckpt: "), "\(plain)", sourceLocation: sourceLocation)
        let json = try Command.run(arguments + ["--store", store, "--json"])
        #expect(json.status == status && json.output == "", "\(json)", sourceLocation: sourceLocation)
        try expectExitError(json, status, sourceLocation: sourceLocation)
    }

    private func expectExitError(
        _ outcome: Command.Outcome, _ status: Int32, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let line = try #require(outcome.errorLines.last, sourceLocation: sourceLocation)
        let error = try? JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        #expect(error?["message_type"] as? String == "exit_error", "\(line)", sourceLocation: sourceLocation)
        #expect(error?["code"] as? Int == Int(status), sourceLocation: sourceLocation)
        #expect((error?["message"] as? String)?.isEmpty == false, sourceLocation: sourceLocation)
    }

    @Test(arguments: [["show"], ["ingest", "a", "--pack", "zip"], ["injest", "x"], ["log", "--nonsense"]])
    func usageErrorsAsJSON(_ arguments: [String]) throws {
        let outcome = try Command.run(arguments + ["--json"])
        #expect(outcome.status == 64)
        try expectExitError(outcome, 64)
    }

    @Test func statsAsJSON() throws {
        let store = try CommandLineTests.shared.get().store
        let stats = try #require(try Command.run(["stats", "--json", "--store", store]).json() as? [String: Any])
        for name in ["raw_bytes", "packed_bytes", "image_bytes", "store_bytes", "snapshots", "blocks"] {
            #expect(stats[name] is Int, "\(name)")
        }
        #expect(stats["snapshots"] as? Int == 3 && stats["runs"] as? Int == 1)
        #expect(stats["hidden_blocks"] as? Int == 0 && stats["hidden_bytes"] as? Int == 0)
        let run = try #require((stats["by_run"] as? [[String: Any]])?.first)
        #expect(run["run"] as? String == "out" && run["snapshots"] as? Int == 3)
        #expect(run["raw_bytes"] as? Int == stats["raw_bytes"] as? Int)
        #expect(run["packed_bytes"] as? Int == stats["packed_bytes"] as? Int && run["shared_bytes"] as? Int == 0)
        #expect((run["image_bytes"] as? Int ?? 0) > 0)
        #expect(try Command.run(["stats", "--store", store]).output.contains("\nRUN  SNAPSHOTS"))
    }

    @Test func logAndShowAsJSON() throws {
        let store = try CommandLineTests.shared.get().store
        let log = try #require(try Command.run(["log", "--json", "--store", store]).json() as? [[String: Any]])
        #expect(log.map { $0["step"] as? Int } == [1, 2, 3])
        #expect(log.map { $0["head"] as? Bool } == [false, false, true])
        #expect(log.allSatisfy { ($0["id"] as? String)?.count == 64 && $0["run"] as? String == "out" })
        for arguments in [["show", "out@2"], ["show", "out", "--tensors"]] {
            let show = try #require(try Command.run(arguments + ["--json", "--store", store]).json() as? [String: Any])
            #expect((show["id"] as? String)?.count == 64)
            #expect((show["parts"] as? [[String: Any]])?.isEmpty == false)
            #expect((show["tensors"] as? [[String: Any]])?.count == (arguments.contains("--tensors") ? 4 : nil))
        }
    }

    @Test(arguments: ["tensor", "layer", "kind"]) func diffAsJSON(_ grouping: String) throws {
        let store = try CommandLineTests.shared.get().store
        let outcome = try Command.run(["diff", "out@1", "out@2", "--by", grouping, "--json", "--store", store])
        let diff = try #require(try outcome.json() as? [String: Any])
        let rows = try #require(diff["rows"] as? [[String: Any]])
        #expect(!rows.isEmpty)
        let measures = ["changed", "words", "delta_l2", "relative_l2", "cosine", "max_abs", "sign_flips"]
        for row in rows {
            for name in ["name"] + measures + (grouping == "tensor" ? ["dtype", "shape"] : []) { #expect(row[name] != nil, "\(name)") }
        }
        let same = try Command.run(["diff", "out@1", "out@1", "--exit-code", "--json", "--store", store])
        #expect(same.status == 0)
        let other = try Command.run(["diff", "out@1", "out@2", "--exit-code", "--json", "--store", store])
        #expect(other.status == 2)
        _ = try other.json()
    }

    /// Commands that change something answer in JSON too.
    @Test func everyCommandAnswersInJSON() throws {
        let playground = try Playground(steps: 2)
        let directory = playground.directory.path
        let store = ["--store", playground.store, "--json"]
        for arguments in [
            ["init", directory + "/another"], ["tag", "best", "out@1"], ["tag"], ["pin", "out@1"], ["path", "out@1"], ["unpin", "out@1"],
            ["tag", "-d", "best"], ["export", "out@1", directory + "/export"], ["verify"], ["verify", "--quick"], ["rm", "out@1"], ["compact"], ["stats"], ["log"],
        ] {
            let outcome = try Command.run(arguments + (arguments[0] == "init" ? ["--json"] : store))
            #expect(outcome.status == 0, "\(outcome)")
            #expect((try? outcome.json()) != nil, "\(arguments.joined(separator: " ")): \"\(outcome.output)\"")
        }
        let ingest = try Command.run(["ingest", playground.source] + store)
        let lines = try ingest.jsonLines()
        #expect(lines.last?["message_type"] as? String == "summary")
        #expect(lines.dropLast().allSatisfy { $0["message_type"] as? String == "snapshot" })
    }

    @Test func verifyTellsDamage() throws {
        let playground = try Playground(steps: 2)
        let whole = try Command.run(["verify", "--json", "--store", playground.store])
        let report = try #require(try whole.json() as? [String: Any])
        #expect(whole.status == 0 && report["ok"] as? Bool == true && (report["problems"] as? [Any])?.isEmpty == true)
        let image = try Command.run(["path", "out", "--store", playground.store]).output.trimmingCharacters(in: .newlines)
        try FileManager.default.moveItem(atPath: image, toPath: playground.directory.path + "/moved")
        for arguments in [["verify"], ["verify", "--quick"]] {
            let missing = try Command.run(arguments + ["--store", playground.store])
            #expect(missing.status == 0 && missing.output.hasPrefix("note: images/") && missing.output.contains("whole: "), "\(missing)")
        }
        try FileManager.default.moveItem(atPath: playground.directory.path + "/moved", toPath: image)
        try FileTree.write("short", to: image + "/model.safetensors")
        let damaged = try Command.run(["verify", "--json", "--store", playground.store])
        #expect(damaged.status == 2)
        let problems = try #require((try damaged.json() as? [String: Any])?["problems"] as? [[String: Any]])
        #expect(problems.count == 1)
        // By the same words as all other damage.
        #expect(problems.first?["snapshots"] as? [String] == ["out@2"])
        let text = try Command.run(["verify", "--store", playground.store])
        #expect(text.status == 2 && text.output.contains("damaged: "))
    }

    @Test func truncatedStoreIsRefusedInOneLine() throws {
        let playground = try Playground(steps: 1)
        let file = try #require(FileHandle(forWritingAtPath: playground.store + "/gen-1/data.mdb"))
        try file.truncate(atOffset: 20_000)
        try file.close()
        for arguments in [["log"], ["show", "out"], ["ingest", playground.source], ["stats"], ["rm", "out"]] {
            try expectFailure(1, arguments, playground.store)
        }
        let verify = try Command.run(["verify", "--store", playground.store])
        #expect(verify.status == 2 && verify.output.contains("data.mdb"))
    }

    @Test func compactSaysHowMuchItFreed() throws {
        let playground = try Playground(steps: 3)
        let store = ["--store", playground.store]
        #expect(try Command.run(["rm", "out@1"] + store).status == 0)
        let json = try #require(try Command.run(["compact", "--json"] + store).json() as? [String: Any])
        let (before, after) = (try #require(json["before_bytes"] as? Int), try #require(json["after_bytes"] as? Int))
        #expect(after < before && json["generation"] as? Int == 2)
        let text = try Command.run(["compact", "--bytes"] + store)
        #expect(text.status == 0 && text.errors == "" && text.output == "gen-3: \(after) -> \(after)\n", "\(text)")
    }

    @Test func storeIsFoundUpward() throws {
        let playground = try Playground(steps: 1, named: ".ckpt")
        let nested = playground.source + "/checkpoint-1"
        #expect(try Command.run(["log"], in: nested).status == 0)
        #expect(try Command.run(["log"], in: nested, environment: ["CKPT_STORE": "/nowhere"]).status == 66)
        #expect(try Command.run(["log", "--store", playground.store], in: "/", environment: ["CKPT_STORE": "/nowhere"]).status == 0)
    }

    @Test func catGivesTheTensor() throws {
        let playground = try CommandLineTests.shared.get()
        let model = SafetensorsFixture.model(seed: 2, layers: 2)
        let target = playground.directory.path + "/tensor"
        let quoted = "'\(Command.path)' cat out@2:layers.1.norm --store '\(playground.store)'"
        #expect(try Command.start(["-c", "\(quoted) > '\(target)'"], program: "/bin/sh").wait().status == 0)
        #expect(try FileTree.bytes(target) == model.tensors[3].bytes)
        #expect(try Command.start(["-c", "\(quoted) --npy > '\(target)'"], program: "/bin/sh").wait().status == 0)
        let npy = try FileTree.bytes(target)
        #expect(npy.prefix(6) == [0x93] + Array("NUMPY".utf8) && Array(npy.dropFirst(128)) == model.tensors[3].bytes)
        // A reader that goes away ends it quietly.
        let pipe = try Command.start(["-c", "\(quoted) | head -c 1 > /dev/null"], program: "/bin/sh").wait()
        #expect(pipe.status == 0 && pipe.errors == "")
    }

    @Test func noOptimizerIsShown() throws {
        let playground = try Playground(steps: 0)
        let checkpoint = try FakeTrainer.write(step: 4, seed: 4, to: playground.source)
        let store = ["--store", playground.store]
        #expect(try Command.run(["ingest", checkpoint, "--no-optimizer"] + store).status == 0)
        #expect(try Command.run(["show", "out@4"] + store).output.contains("optimizer left out: 1 file,"))
        #expect(try Command.run(["log"] + store).output.contains("optimizer left out"))
        let show = try #require(try Command.run(["show", "out@4", "--json"] + store).json() as? [String: Any])
        #expect((show["steps"] as? [[String: Any]])?.first?["optimizer_left_out_files"] as? Int == 1)
    }

    @Test func droppedOptimizersAreShown() throws {
        let playground = try Playground(steps: 2)
        let store = ["--store", playground.store]
        let text = try Command.run(["ingest", playground.source, "--optimizer-keep", "1"] + store)
        #expect(text.status == 0 && text.output.contains("optimizer dropped: out@1\n"), "\(text)")
        try FakeTrainer.write(step: 3, seed: 3, to: playground.source)
        let json = try Command.run(["ingest", playground.source, "--optimizer-keep", "1", "--json"] + store).jsonLines()
        #expect(json.compactMap { $0["dropped_optimizers"] as? [String] } == [[], [], ["out@2"]])

        #expect(try Command.run(["show", "out@1"] + store).output.contains("optimizer dropped"))
        #expect(try Command.run(["log"] + store).output.split(separator: "\n").filter { $0.contains("optimizer dropped") }.count == 2)
        for arguments in [["export", "out@1", playground.directory.path + "/export"], ["path", "out@1"]] {
            let outcome = try Command.run(arguments + store)
            #expect(outcome.status == 0 && outcome.errorLines.count == 1 && outcome.errors.contains("optimizer of out@1 was dropped"), "\(outcome)")
        }
        let whole = try Command.run(["path", "out@3"] + store)
        #expect(whole.status == 0 && whole.errors == "")
        #expect(try Command.run(["verify"] + store).status == 0)
    }

    @Test func namesWithControlCharactersStayOnOneLine() throws {
        let playground = try Playground(steps: 0)
        let path = playground.directory.path + "/bad\nname\u{1b}[31m.safetensors"
        try FileTree.write("x", to: path)
        try expectFailure(65, ["ingest", path], playground.store)
    }

    /// Long enough to be stopped in the middle: many megabytes.
    @Test(arguments: [SIGINT, SIGTERM]) func interruptedIngest(_ signal: Int32) throws {
        let playground = try Playground(steps: 1)
        var random = SeededBytes(1)
        let directory = playground.source + "/checkpoint-2"
        try FileTree.write(
            SafetensorsFixture([.init("t", .u8, [64 << 20], random.bytes(64 << 20))]).bytes, to: directory + "/model.safetensors")
        try FileTree.write("{\"global_step\": 2}", to: directory + "/trainer_state.json")
        for json in [false, true] {
            let command = try Command.start(
                ["ingest", playground.source, "--rehash", "--store", playground.store] + (json ? ["--json"] : []))
            // Until the first checkpoint is reported.
            for _ in 0..<2000 where command.output.isEmpty { usleep(1000) }
            usleep(100_000)
            command.send(signal)
            let outcome = command.wait(timeout: 20)
            #expect(outcome.status == 130, "\(outcome)")
            #expect(outcome.errors.contains("1 committed, up to out@1"), "\(outcome)")
            #expect(outcome.errorLines.filter { !$0.contains("note: ") }.count == 1)
            if json { try expectExitError(outcome, 130) }
            let verify = try Command.run(["verify", "--json", "--store", playground.store])
            let report = try #require(try verify.json() as? [String: Any])
            #expect(verify.status == 0 && report["pending"] as? Int == 0 && report["snapshots"] as? Int == 1)
            let images = try FileManager.default.contentsOfDirectory(atPath: playground.store + "/images")
            #expect(images.count == 1)
        }
    }

    @Test func interruptedExportLeavesNothing() throws {
        let playground = try Playground(steps: 0)
        var random = SeededBytes(1)
        let source = playground.directory.path + "/big.safetensors"
        // Very many small blocks: Ctrl-C is looked for every few hundred.
        let tensors = (0..<20_000).map { SafetensorsFixture.Tensor("t\($0)", .u8, [1024], random.bytes(1024)) }
        try FileTree.write(SafetensorsFixture(tensors).bytes, to: source)
        let store = ["--store", playground.store]
        #expect(try Command.run(["ingest", source, "--run", "big", "--no-image"] + store).status == 0)
        let target = playground.directory.path + "/exports/one"
        let command = try Command.start(["export", "big", target] + store)
        for _ in 0..<2000 where !FileManager.default.fileExists(atPath: playground.directory.path + "/exports") { usleep(500) }
        command.send(SIGINT)
        let outcome = command.wait(timeout: 20)
        #expect(outcome.status == 130, "\(outcome)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: playground.directory.path + "/exports") == [])
    }

    @Test func progressOnRequest() throws {
        let playground = try Playground(steps: 1)
        let outcome = try Command.run(
            ["ingest", playground.source, "--rehash", "--store", playground.store], environment: ["CKPT_PROGRESS_FPS": "1000"])
        #expect(outcome.status == 0 && outcome.errors.contains("checkpoint-1"))
        let quiet = try Command.run(["ingest", playground.source, "--rehash", "--store", playground.store])
        #expect(!quiet.errors.contains("ETA") && !quiet.errors.contains("checkpoint-1"))
    }
}

/// A store and the trainer's output it was made from.
struct Playground {
    let directory: TemporaryDirectory
    let store: String
    let source: String

    init(steps: Int, named name: String = "store") throws {
        directory = try TemporaryDirectory()
        store = directory.path + "/" + name
        source = directory.path + "/out"
        let made = try Command.run(["init", store])
        try #require(made.status == 0, "\(made)")
        guard steps > 0 else { return }
        for step in 1...steps { try FakeTrainer.write(step: step, seed: UInt64(step), to: source) }
        let taken = try Command.run(["ingest", source, "--store", store])
        try #require(taken.status == 0, "\(taken)")
    }
}
