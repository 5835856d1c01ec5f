import CheckpointReports
import CheckpointStore
import CkptABI
import LanguageModel
import TensorFormats
import WeakTraining

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A call that cannot be made as it was asked for.
struct CallError: Error {
    enum Code { case badHandle, badArgument }

    var code: Code
    var reason: String

    init(_ code: Code, _ reason: String) {
        self.code = code
        self.reason = reason
    }
}

/// Runs the body of a function of the interface: whatever it throws becomes a status and this thread's last error.
func call(_ body: () throws -> Void) -> ckpt_status {
    do {
        try body()
        return ckpt_status(CKPT_OK)
    } catch let error as CallError {
        ck_error_set(error.reason, "")
        return ckpt_status(error.code == .badHandle ? CKPT_BAD_HANDLE : CKPT_BAD_ARGUMENT)
    } catch let error as StoreError {
        ck_error_set(error.reason, error.hint ?? "")
        return status(error.code)
    } catch let error as LanguageModelError {
        ck_error_set(error.reason, error.hint ?? "")
        return ckpt_status(CKPT_BAD_INPUT)
    } catch let error as WeakTrainingError {
        ck_error_set(error.reason, error.hint ?? "")
        return ckpt_status(CKPT_BAD_INPUT)
    } catch {
        ck_error_set("\(error)", "")
        return ckpt_status(error is FormatError ? CKPT_BAD_INPUT : CKPT_FAILED)
    }
}

private func status(_ code: StoreError.Code) -> ckpt_status {
    let status =
        switch code {
        case .noStore: CKPT_NO_STORE
        case .noSuchRef: CKPT_NO_SUCH_REF
        case .badInput: CKPT_BAD_INPUT
        case .conflict: CKPT_CONFLICT
        case .incomplete: CKPT_INCOMPLETE
        case .locked: CKPT_LOCKED
        case .damaged: CKPT_DAMAGED
        case .incompatible: CKPT_INCOMPATIBLE
        case .diskFull: CKPT_DISK_FULL
        case .interrupted: CKPT_INTERRUPTED
        default: CKPT_FAILED
        }
    return ckpt_status(status)
}

/// What callers give, checked.
enum Argument {
    /// - Throws: `.badArgument` for NULL and for what is no UTF-8.
    static func text(_ pointer: UnsafePointer<CChar>?, _ name: String) throws(CallError) -> String {
        guard let pointer else { throw CallError(.badArgument, "\(name) is NULL") }
        guard let text = String(validatingCString: pointer) else { throw CallError(.badArgument, "\(name) is not UTF-8") }
        return text
    }

    static func optionalText(_ pointer: UnsafePointer<CChar>?, _ name: String) throws(CallError) -> String? {
        pointer == nil ? nil : try text(pointer, name)
    }

    static func texts(_ pointer: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int, _ name: String) throws(CallError) -> [String] {
        var texts: [String] = []
        for item in try items(pointer, count, name) { texts.append(try text(item, "\(name)[\(texts.count)]")) }
        return texts
    }

    /// - Throws: `.badArgument` for a count that no memory has room for, and for NULL where there are some.
    static func items<Item>(_ pointer: UnsafePointer<Item>?, _ count: Int, _ name: String) throws(CallError) -> UnsafeBufferPointer<Item> {
        guard count > 0 else {
            // The count is unsigned in C.
            guard count == 0 else { throw CallError(.badArgument, "\(name): more than there can be") }
            return UnsafeBufferPointer(start: nil, count: 0)
        }
        guard count <= Int.max / max(1, MemoryLayout<Item>.stride) else { throw CallError(.badArgument, "\(name): \(count) are more than there can be") }
        guard let pointer else { throw CallError(.badArgument, "\(name) is NULL, of \(count)") }
        return UnsafeBufferPointer(start: pointer, count: count)
    }

    /// Bytes of memory.
    static func bytes(_ pointer: UnsafeRawPointer?, _ count: UInt64, _ name: String) throws(CallError) -> UnsafeRawBufferPointer {
        guard count <= UInt64(Int.max) else { throw CallError(.badArgument, "\(name): \(count) bytes are more than there can be") }
        guard pointer != nil || count == 0 else { throw CallError(.badArgument, "\(name) is NULL, of \(count) bytes") }
        return UnsafeRawBufferPointer(start: pointer, count: Int(count))
    }

    static func out<Value>(_ pointer: UnsafeMutablePointer<Value>?, _ name: String) throws(CallError) -> UnsafeMutablePointer<Value> {
        guard let pointer else { throw CallError(.badArgument, "\(name) is NULL") }
        return pointer
    }

    /// A structure of options as long as its program knows it; what it does not know is zero.
    static func options<Options>(_ pointer: UnsafePointer<Options>?, _ empty: Options, _ name: String) throws(CallError) -> Options {
        guard let pointer else { return empty }
        let size = UnsafeRawPointer(pointer).loadUnaligned(as: Int.self)
        // As long as one of an older program can be; one that is longer is of a newer program, whose wishes would be overlooked. No structure ends
        // inside a pointer.
        guard (MemoryLayout<Int>.size...MemoryLayout<Options>.size).contains(size), size % MemoryLayout<Options>.alignment == 0 else {
            throw CallError(.badArgument, "\(name).struct_size is \(UInt(bitPattern: size)): it is to be sizeof(\(Options.self)), \(MemoryLayout<Options>.size) here")
        }
        var options = empty
        withUnsafeMutableBytes(of: &options) { $0.copyMemory(from: UnsafeRawBufferPointer(start: pointer, count: size)) }
        return options
    }

    /// Checks that a structure to be filled is one that this library knows.
    static func size(_ size: Int, of expected: Int, _ name: String) throws(CallError) {
        guard size == expected else { throw CallError(.badArgument, "\(name).struct_size is \(UInt(bitPattern: size)): it is to be \(expected)") }
    }
}

/// Gives `text` to the caller, as a C string of its own.
func give(_ text: String, _ out: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) throws {
    guard let copy = strdup(text) else { throw StoreError(.failed, "out of memory") }
    out.pointee = copy
}

func give(_ json: JSONOutput, _ out: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) throws { try give(json.text, out) }
