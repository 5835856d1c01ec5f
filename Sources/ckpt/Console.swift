import CheckpointStore
import Synchronization

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// stdout is the answer, stderr is everything else.
enum Console {
    /// Opens /dev/null in the place of standard streams that are closed: else the store's files would take their numbers,
    /// and what is printed would go into them.
    static func openClosedStreams() {
        for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(descriptor, F_GETFD) < 0 {
            // The lowest free number is this one.
            _ = open("/dev/null", O_RDWR)
        }
    }

    static func print(_ text: String) { write(text + "\n", STDOUT_FILENO) }
    static func error(_ text: String) { write(text + "\n", STDERR_FILENO) }

    /// Says which parts of a snapshot are not among the files it gave.
    static func noteDropped(_ parts: [PartKind], of ref: String) {
        for part in parts { error(printable("ckpt: note: the \(part) of \(ref) was dropped; the other files are here")) }
    }

    /// Writes all of `text`; a reader that has gone away ends the process quietly.
    static func write(_ text: String, _ descriptor: Int32) {
        var text = text
        text.withUTF8 { writeBytes(UnsafeRawBufferPointer($0), descriptor) }
    }

    static func writeBytes(_ bytes: UnsafeRawBufferPointer, _ descriptor: Int32) {
        var done = 0
        while done < bytes.count {
            #if canImport(Glibc)
            let count = Glibc.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            #elseif canImport(Musl)
            let count = Musl.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            #else
            let count = Darwin.write(descriptor, bytes.baseAddress! + done, bytes.count - done)
            #endif
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                // A reader that has gone away wants no word of it.
                if errno == EPIPE { endProcess(141) }
                if descriptor == STDOUT_FILENO { error("ckpt: writing the answer: \(String(cString: strerror(errno)))") }
                endProcess(ExitStatus.failed.rawValue)
            }
            done += count
        }
    }

    static let isOutputTerminal = isatty(STDOUT_FILENO) == 1
    static let isErrorTerminal = isatty(STDERR_FILENO) == 1

    /// Columns of the terminal stdout goes to; nil when it is none.
    static var width: Int? {
        guard isOutputTerminal else { return nil }
        var size = winsize()
        if ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { return Int(size.ws_col) }
        return 80
    }

    /// Text from files on a terminal: control characters would act there.
    static func printable(_ text: String) -> String { printable(text, keeping: []) }

    /// - Parameter kept: control characters that stay as they are.
    static func printable(_ text: String, keeping kept: Set<Unicode.Scalar>) -> String {
        func acts(_ scalar: Unicode.Scalar) -> Bool {
            (scalar.value < 32 || (127..<160).contains(scalar.value)) && !kept.contains(scalar)
        }
        guard text.unicodeScalars.contains(where: acts) else { return text }
        return text.unicodeScalars.map { scalar in
            guard acts(scalar) else { return String(scalar) }
            return (scalar.value < 16 ? "\\x0" : "\\x") + String(scalar.value, radix: 16)
        }.joined()
    }

    private struct Progress {
        var shown = 0
        var last: Double = 0
        var isShowing = false
    }
    private static let progress = Mutex(Progress())

    /// Lines a second: 10 on a terminal, `CKPT_PROGRESS_FPS` elsewhere, else none.
    private static let framesPerSecond: Double = {
        if let text = getenv("CKPT_PROGRESS_FPS"), let rate = Double(String(cString: text)), rate >= 0 { return rate }
        return isErrorTerminal ? 10 : 0
    }()

    /// Shows `text` as the state of long work, not more often than the frame rate allows.
    static func progress(_ text: () -> String) {
        guard framesPerSecond > 0 else { return }
        progress.withLock { progress in
            let now = Clock.seconds
            guard now - progress.last >= 1 / framesPerSecond else { return }
            progress.last = now
            progress.isShowing = true
            write(isErrorTerminal ? "\r\(text())\u{1B}[K" : text() + "\n", STDERR_FILENO)
        }
    }

    /// Clears the progress line before other text.
    static func endProgress() {
        progress.withLock { progress in
            if progress.isShowing, isErrorTerminal { write("\r\u{1B}[K", STDERR_FILENO) }
            progress.isShowing = false
        }
    }
}

enum Clock {
    /// Seconds of a clock that only goes forward.
    static var seconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

/// Ctrl-C and SIGTERM ask long work to stop at the next safe place. A second one ends the process at once: the
/// store is whole all the same.
enum Interrupt {
    private static let requested = Atomic<Bool>(false)

    static var isRequested: Bool { requested.load(ordering: .relaxed) }

    static func install() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { number in
                if Interrupt.requested.exchange(true, ordering: .relaxed) { _exit(128 + number) }
            }
        }
        signal(SIGPIPE, SIG_IGN)
    }
}
