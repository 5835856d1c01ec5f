public import Foundation
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// The `ckpt` program as a process of its own.
public enum Command {
    /// The product that was built beside the tests.
    public static let path: String = {
        let tests = URL(filePath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        var directory = tests.deletingLastPathComponent()
        // On macOS the test bundle is a directory tree; the product lies beside its root.
        for _ in 0..<6 {
            let candidate = directory.appending(path: "ckpt").path
            if access(candidate, X_OK) == 0, !isDirectory(candidate) { return candidate }
            directory = directory.deletingLastPathComponent()
        }
        fatalError("no ckpt beside \(tests.path): build with swift build --build-tests")
    }()

    private static func isDirectory(_ path: String) -> Bool {
        var isDirectory: ObjCBool = false
        return FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) && isDirectory.boolValue
    }

    /// How a process ended and what it wrote.
    public struct Outcome: Sendable {
        /// The exit status; nil when a signal ended it.
        public var status: Int32?
        public var signal: Int32?
        public var output: String
        public var errors: String
        public var seconds: Double

        public var errorLines: [Substring] { errors.split(separator: "\n") }
        /// What it wrote to stdout, as JSON.
        public func json() throws -> Any { try JSONSerialization.jsonObject(with: Data(output.utf8), options: .fragmentsAllowed) }
        /// What it wrote to stdout, one JSON object a line.
        public func jsonLines() throws -> [[String: Any]] {
            try output.split(separator: "\n").compactMap {
                try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
            }
        }
    }

    /// Runs `ckpt` with `arguments` to its end.
    public static func run(
        _ arguments: [String], in directory: String? = nil, environment: [String: String] = [:], timeout: Double = 120
    ) throws -> Outcome {
        try start(arguments, in: directory, environment: environment).wait(timeout: timeout)
    }

    /// Starts `ckpt` with `arguments`, or another `program`.
    public static func start(
        _ arguments: [String], program: String? = nil, in directory: String? = nil, environment: [String: String] = [:]
    ) throws -> RunningCommand {
        try RunningCommand(program ?? path, arguments, directory, environment)
    }
}

/// A process under way. Killed when the object goes before its end.
public final class RunningCommand: Sendable {
    public let processID: pid_t
    private let files: TemporaryDirectory
    private let started = DispatchTime.now()
    private let ended = Mutex<Int32?>(nil)

    fileprivate init(
        _ program: String, _ arguments: [String], _ directory: String?, _ environment: [String: String]
    ) throws {
        files = try TemporaryDirectory()
        #if canImport(Darwin)
        var actions: posix_spawn_file_actions_t?
        #else
        var actions = posix_spawn_file_actions_t()
        #endif
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, files.path + "/out", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        posix_spawn_file_actions_addopen(&actions, 2, files.path + "/err", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        // The shell changes directory: glibc's call for it is hidden from Swift.
        var (program, arguments) = (program, arguments)
        if let directory {
            arguments = ["-c", "cd \"$0\" && exec \"$@\"", directory, program] + arguments
            program = "/bin/sh"
        }

        #if canImport(Darwin)
        var attributes: posix_spawnattr_t?
        #else
        var attributes = posix_spawnattr_t()
        #endif
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // Threads of dispatch block signals, and a child would inherit that.
        var (none, all) = (sigset_t(), sigset_t())
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var variables = ProcessInfo.processInfo.environment
        variables["CKPT_STORE"] = nil
        variables["CKPT_PROGRESS_FPS"] = nil
        variables.merge(environment) { $1 }
        var argv: [UnsafeMutablePointer<CChar>?] = ([program] + arguments).map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = variables.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer {
            for pointer in argv + envp { free(pointer) }
        }
        var processID: pid_t = 0
        let code = posix_spawn(&processID, program, &actions, &attributes, &argv, &envp)
        guard code == 0 else { throw POSIXError(POSIXErrorCode(rawValue: code) ?? .EINVAL) }
        self.processID = processID
    }

    deinit {
        guard ended.withLock({ $0 }) == nil else { return }
        kill(processID, SIGKILL)
        var status: Int32 = 0
        waitpid(processID, &status, 0)
    }

    public func send(_ signal: Int32) { kill(processID, signal) }

    /// Whether it still runs.
    public var isRunning: Bool { poll() == nil }

    /// What it has written to stdout so far.
    public var output: String { (try? String(contentsOfFile: files.path + "/out", encoding: .utf8)) ?? "" }
    public var errors: String { (try? String(contentsOfFile: files.path + "/err", encoding: .utf8)) ?? "" }

    private func poll() -> Int32? {
        ended.withLock { ended in
            if let ended { return ended }
            var status: Int32 = 0
            guard waitpid(processID, &status, WNOHANG) == processID else { return nil }
            ended = status
            return status
        }
    }

    /// Waits for its end, at most `timeout` seconds; then it is killed and `signal` says so.
    @discardableResult
    public func wait(timeout: Double = 120) -> Command.Outcome {
        var pause: useconds_t = 200
        while true {
            let seconds = Double(DispatchTime.now().uptimeNanoseconds - started.uptimeNanoseconds) / 1e9
            if let status = poll() {
                let signal = status & 0x7f
                return Command.Outcome(
                    status: signal == 0 ? status >> 8 & 0xff : nil, signal: signal == 0 ? nil : signal,
                    output: output, errors: errors, seconds: seconds)
            }
            if seconds > timeout { kill(processID, SIGKILL) }
            usleep(pause)
            pause = min(pause * 2, 5000)
        }
    }
}

/// Whether the slow tests run too: `CKPT_SLOW_TESTS=1 swift test`.
public let runsSlowTests = !(ProcessInfo.processInfo.environment["CKPT_SLOW_TESTS"] ?? "").isEmpty
