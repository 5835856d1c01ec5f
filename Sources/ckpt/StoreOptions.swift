import ArgumentParser
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// What every command takes.
struct StoreOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("The store directory.", valueName: "path"), completion: .directory)
    var store: String?

    @Flag(name: .long, help: "Print JSON: names are stable, fields may be added.")
    var json = false

    @Flag(name: .long, help: "Print exact numbers of bytes.")
    var bytes = false

    @Option(name: .long, help: ArgumentHelp("Seconds to wait while another process writes.", valueName: "seconds"))
    var lockTimeout: Double = 30

    func validate() throws {
        guard lockTimeout >= 0 else { throw ValidationError("--lock-timeout is not negative") }
        Format.exactBytes = bytes
    }

    /// `--store`, else `CKPT_STORE`.
    var named: String? {
        if let store { return store }
        guard let text = getenv("CKPT_STORE"), text.pointee != 0 else { return nil }
        return String(cString: text)
    }

    /// Where the store is: `--store`, `CKPT_STORE`, or the nearest `.ckpt` upward from the working directory.
    func path() throws(StoreError) -> String {
        if let named { return named }
        guard let buffer = getcwd(nil, 0) else { throw StoreError(.noStore, "no working directory") }
        defer { free(buffer) }
        var directory = String(cString: buffer)
        while true {
            let candidate = directory == "/" ? "/.ckpt" : directory + "/.ckpt"
            if access(candidate + "/current", F_OK) == 0 { return candidate }
            guard let slash = directory.lastIndex(of: "/"), directory != "/" else { break }
            directory = slash == directory.startIndex ? "/" : String(directory[..<slash])
        }
        throw StoreError(.noStore, "no store: no .ckpt directory here or above", hint: "ckpt init makes one here, or give --store")
    }

    func open() throws(StoreError) -> Store { try Store.open(path(), lockTimeout: lockTimeout, isCancelled: { Interrupt.isRequested }) }
}

/// Runs until done or interrupted.
let interruptible = Monitor(isCancelled: { Interrupt.isRequested })
