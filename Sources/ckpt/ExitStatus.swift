import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What the process tells its caller.
enum ExitStatus: Int32 {
    case ok = 0
    case failed = 1
    /// Usable, but something was found: `verify`, `diff --exit-code`.
    case found = 2
    case usage = 64
    case badInput = 65
    case notFound = 66
    case locked = 75
    case interrupted = 130

    init(_ code: StoreError.Code) {
        switch code {
        case .noStore, .noSuchRef: self = .notFound
        case .badInput, .conflict, .incomplete, .incompatible: self = .badInput
        case .locked: self = .locked
        case .interrupted: self = .interrupted
        default: self = .failed
        }
    }

    static let heading = "EXIT STATUS"

    static let table = """
        \(heading)
          0 ok, 1 failed, 2 something found (verify, diff --exit-code),
          64 usage, 65 bad input, 66 no such store or snapshot,
          75 locked by another process, 130 interrupted
        """
}

/// `exit`, by a name that `ParsableCommand` does not take.
func endProcess(_ status: Int32) -> Never { exit(status) }
