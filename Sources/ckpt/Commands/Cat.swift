import ArgumentParser
import CheckpointStore
import TensorFormats

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

struct Cat: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write one tensor's bytes to stdout, row-major.",
        discussion: """
            REF:TENSOR, or REF:FILE:TENSOR where several files have a tensor of that name. With --npy, bf16 and the float8
            types are written as unsigned integers of their size: numpy has no names for them.

            \(ExitStatus.table)
            """.flowing)

    @Argument(help: "The snapshot and the tensor: REF:TENSOR.", completion: .tensor)
    var tensor: String
    @Flag(help: "Write a .npy file, which numpy.load reads.")
    var npy = false
    @OptionGroup var options: StoreOptions

    func run() throws {
        guard let colon = tensor.firstIndex(of: ":"), colon != tensor.startIndex else {
            throw ValidationError("say REF:TENSOR")
        }
        guard !Console.isOutputTerminal else {
            throw StoreError(.badInput, "raw bytes are not for a terminal", hint: "redirect to a file or a pipe")
        }
        let ref = String(tensor[..<colon])
        let name = String(tensor[tensor.index(after: colon)...])
        let store = try options.open()
        let entry = try store.snapshot(ref).tensor(name)
        if npy { try NumpyHeader.bytes(entry).withUnsafeBytes { Console.writeBytes($0, STDOUT_FILENO) } }
        let reader = try store.contents(ref).makeReader()
        do {
            for range in entry.blockRanges {
                try reader.withBytes(of: entry, range) { Console.writeBytes($0, STDOUT_FILENO) }
            }
        } catch let error as StoreError {
            throw error
        }
    }
}

/// The header of a .npy file, version 1.0.
enum NumpyHeader {
    static func bytes(_ tensor: TensorEntry) throws -> [UInt8] {
        guard let type = descriptor(tensor.dtype) else {
            throw StoreError(.badInput, "\(tensor.name): numpy has no type for \(tensor.dtype.name)", hint: "leave --npy out")
        }
        let dims = tensor.shape.map(String.init).joined(separator: ", ") + (tensor.shape.count == 1 ? "," : "")
        var text = "{'descr': '\(type)', 'fortran_order': False, 'shape': (\(dims)), }"
        // Magic, version and length take 10 bytes; data starts at a multiple of 64.
        while (10 + text.utf8.count + 1) % 64 != 0 { text += " " }
        text += "\n"
        guard let count = UInt16(exactly: text.utf8.count) else {
            throw StoreError(.badInput, "\(tensor.name): too many dimensions for .npy")
        }
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(count & 255), UInt8(count >> 8)] + Array(text.utf8)
    }

    private static func descriptor(_ dtype: DType) -> String? {
        switch dtype {
        case .bool: "|b1"
        case .u8, .f8E4M3, .f8E5M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: "|u1"
        case .i8: "|i1"
        case .u16, .bf16: "<u2"
        case .i16: "<i2"
        case .f16: "<f2"
        case .u32: "<u4"
        case .i32: "<i4"
        case .f32: "<f4"
        case .u64: "<u8"
        case .i64: "<i8"
        case .f64: "<f8"
        case .c64: "<c8"
        case .c128: "<c16"
        case .f6E2M3, .f6E3M2, .f4: nil
        }
    }
}
