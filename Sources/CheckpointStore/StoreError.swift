internal import BlockCodec
internal import LMDB
internal import TensorFormats

/// Why the store refused or failed. One line for people.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    /// Opaque, so that new cases do not break callers.
    public struct Code: Sendable, Hashable {
        private enum Value: Hashable {
            case noStore, noSuchRef, badInput, conflict, incomplete, locked, damaged, incompatible, diskFull
            case interrupted, failed
        }
        private let value: Value
        /// The path holds no store.
        public static let noStore = Code(value: .noStore)
        /// The name matches no snapshot or tensor, or more than one.
        public static let noSuchRef = Code(value: .noSuchRef)
        /// The input cannot be taken as it is.
        public static let badInput = Code(value: .badInput)
        /// It contradicts what the store holds.
        public static let conflict = Code(value: .conflict)
        /// A checkpoint that is still being written, or was left half written.
        public static let incomplete = Code(value: .incomplete)
        /// Another process holds the store lock.
        public static let locked = Code(value: .locked)
        /// A record or page of the store does not match its checksum or its counts.
        public static let damaged = Code(value: .damaged)
        /// Written by a version with features this one lacks.
        public static let incompatible = Code(value: .incompatible)
        /// No room on the disk, or in a quota; what was committed before stays.
        public static let diskFull = Code(value: .diskFull)
        /// Stopped by the caller.
        public static let interrupted = Code(value: .interrupted)
        /// The operating system or a library failed.
        public static let failed = Code(value: .failed)
    }

    /// What callers decide by.
    public var code: Code
    /// One line that names the file, tensor or record. Its words may change.
    public var reason: String
    /// What to do about it.
    public var hint: String?

    public init(_ code: Code, _ reason: String, hint: String? = nil) {
        self.code = code
        self.reason = reason
        self.hint = hint
    }

    /// Reason and hint.
    public var description: String {
        guard let hint else { return reason }
        return "\(reason) (hint: \(hint))"
    }

    init(_ error: any Error) {
        switch error {
        case let error as StoreError: self = error
        case let error as LMDBError:
            let code: Code = error.isDiskFull ? .diskFull : error.isDamage ? .damaged : .failed
            let hint = error.isDamage ? "run ckpt verify" : error.isDiskFull ? "what was committed before is kept; make room and run it again" : nil
            self.init(code, "store: \(error)", hint: hint)
        case let error as FormatError:
            let code: Code = error.code == .io ? .failed : error.code == .truncated ? .incomplete : .badInput
            self.init(code, "\(error)")
        case let error as CodecError:
            self.init(.damaged, "store: \(error)", hint: "run ckpt verify")
        default: self.init(.failed, "\(error)")
        }
    }
}

/// Runs `body`, turning the errors of the modules below into the store's own.
func throwingStoreErrors<R: ~Copyable>(_ body: () throws -> R) throws(StoreError) -> R {
    do {
        return try body()
    } catch {
        throw StoreError(error)
    }
}
