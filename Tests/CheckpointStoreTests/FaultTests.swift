#if os(Linux)
import CheckpointStore
import Foundation
import Glibc
import TestSupport
import Testing

/// Any write or sync of a command fails, or is its last: what is in the store is as before or after, and the same command goes on.
/// By a library that is preloaded (`Tests/Faults/faults.c`).
@Suite struct FaultTests {
    /// Moments of each command that are tried with each kind of fault; all of them when slow tests run.
    private static let moments = runsSlowTests ? Int.max : 3

    enum Fault: String, CaseIterable { case full, error, short, kill, torn, lost }

    /// What is done to a store, and the store it is done to.
    enum Job: String, CaseIterable, CustomTestStringConvertible {
        case ingest, prune, compact, tag, watch

        var testDescription: String { rawValue }

        func arguments(_ place: String) -> [String] {
            switch self {
            case .ingest: ["ingest", place + "/next.safetensors", "--run", "r", "--step", "9"]
            case .prune: ["prune", "--keep-every", "3"]
            case .compact: ["compact"]
            case .tag: ["tag", "t", "r@2"]
            case .watch: ["watch", place + "/output", "--run", "w", "--move", "--leave", "0", "--once", "--settle", "0"]
            }
        }
    }

    /// A directory with a store, and what jobs read.
    private static func prepare() throws -> TemporaryDirectory {
        let directory = try TemporaryDirectory()
        try Store.create(at: directory.path + "/store")
        let store = try Store.open(directory.path + "/store")
        var training = FineTune(tensors: 2)
        for step in 1...6 {
            let path = directory.path + "/source.safetensors"
            try FileTree.write(training.next(), to: path)
            var options = IngestOptions()
            (options.run, options.step) = ("r", UInt64(step))
            try store.ingest(path, options: options)
        }
        try FileTree.write(training.next(), to: directory.path + "/next.safetensors")
        for step in 1...2 { try FakeTrainer.write(step: step, seed: UInt64(step), to: directory.path + "/output", layers: 1, rows: 64, columns: 64) }
        return directory
    }

    private static let library: String? = {
        let source = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appending(path: "Faults/faults.c").path
        let target = NSTemporaryDirectory() + "ckpt-faults-\(getpid()).so"
        for compiler in ["clang", "cc", "gcc"] {
            for directory in (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":") {
                let program = "\(directory)/\(compiler)"
                guard access(program, X_OK) == 0 else { continue }
                let arguments = ["-shared", "-fPIC", "-O1", "-o", target, source, "-ldl", "-lpthread"]
                if let outcome = try? Command.start(arguments, program: program).wait(), outcome.status == 0 { return target }
            }
        }
        return nil
    }()

    private static func environment(_ place: String, _ fault: Fault? = nil, at: Int = 0) throws -> [String: String] {
        [
            "LD_PRELOAD": try #require(library, "no C compiler made \("Tests/Faults/faults.c") into a library"), "FAULT_PATH": place,
            "FAULT_KIND": fault?.rawValue ?? "", "FAULT_AT": "\(at)", "FAULT_LOG": place + ".calls",
        ]
    }

    /// What is in the store, whole: the bytes of each snapshot, by its place, and the tags.
    private static func contents(_ place: String) throws -> [String: [String: Data]] {
        let store = try Store.open(place + "/store")
        var found: [String: [String: Data]] = [:]
        for entry in try store.history() {
            let target = place + "-export"
            defer { try? FileManager.default.removeItem(atPath: target) }
            try store.export("\(entry.id)", to: target)
            found["\(entry.run)@\(entry.step)"] = try FileTree.contents(of: target)
        }
        for tag in try store.tags() { found["tag \(tag.name)"] = ["": Data("\(tag.id)".utf8)] }
        return found
    }

    private static func copy(_ from: String, _ to: String) throws {
        try? FileManager.default.removeItem(atPath: to)
        // With times: what has been ingested is recognised by them.
        let outcome = try Command.start(["-a", from, to], program: "/bin/cp").wait()
        try #require(outcome.status == 0, "\(outcome)")
    }

    @Test(arguments: Job.allCases) func anyWriteFails(_ job: Job) throws {
        let base = try FaultTests.prepare()
        let work = try TemporaryDirectory()
        let place = work.path + "/place"
        let arguments = job.arguments(place) + ["--store", place + "/store"]

        try FaultTests.copy(base.path, place)
        letFilesSettle()
        let before = try FaultTests.contents(place)
        let undisturbed = try Command.run(arguments, environment: FaultTests.environment(place))
        try #require(undisturbed.status == 0, "\(undisturbed)")
        let calls = try #require(Int(String(contentsOfFile: place + ".calls", encoding: .utf8).trimmingCharacters(in: .newlines)))
        let after = try FaultTests.contents(place)
        let originals = try FileTree.contents(of: base.path + "/output")
        #expect(calls > 4)

        var random = SystemRandomNumberGenerator()
        var struck: [Fault: Int] = [:]
        for fault in Fault.allCases {
            let step = max(1, calls / FaultTests.moments)
            for first in stride(from: 1, through: calls, by: step) {
                let at = min(calls, first + Int.random(in: 0..<step, using: &random))
                let moment = "\(job.rawValue): \(fault.rawValue) at call \(at) of \(calls)"
                try FaultTests.copy(base.path, place)
                let outcome = try Command.run(arguments, environment: FaultTests.environment(place, fault, at: at))
                if outcome.status != 0 { struck[fault, default: 0] += 1 }
                #expect(outcome.status == 0 || outcome.status == 1 || outcome.signal == SIGKILL, "\(moment): \(outcome)")
                if outcome.status == 1 { #expect(outcome.errorLines.count { !$0.contains("note:") && !$0.contains("watching") } == 1, "\(moment): \(outcome)") }

                let report = try Store.verify(place + "/store", depth: .full)
                #expect(report.problems.map(\.description) == [], "\(moment)")
                let found = try FaultTests.contents(place)
                for (name, files) in found { #expect(files == before[name] || files == after[name], "\(moment): \(name)") }
                // A prune or a series may have come part of the way.
                for name in before.keys where after[name] != nil { #expect(found[name] != nil, "\(moment): \(name)") }
                if outcome.status == 0 { #expect(found == after, "\(moment)") }
                if job == .watch {
                    // Each checkpoint is where the trainer wrote it, or in the store.
                    let left = (try? FileTree.contents(of: place + "/output")) ?? [:]
                    for step in 1...2 where found["w@\(step)"] == nil {
                        for (path, bytes) in originals where path.hasPrefix("checkpoint-\(step)/") { #expect(left[path] == bytes, "\(moment): \(path)") }
                    }
                }

                let again = try Command.run(arguments, environment: ["LD_PRELOAD": ""])
                #expect(again.status == 0 || job == .ingest && again.errors.contains("r@9"), "\(moment): \(again)")
                #expect(try FaultTests.contents(place) == after, "\(moment)")
                let last = try Store.verify(place + "/store", depth: .full)
                #expect(last.problems.map(\.description) == [] && last.pending == 0, "\(moment)")
            }
        }
        for fault in [Fault.error, .kill, .torn, .lost] { #expect(struck[fault] ?? 0 > 0, "\(job.rawValue): \(fault.rawValue) did no harm: \(struck)") }
    }
}
#endif
