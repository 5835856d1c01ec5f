#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Numbers as people read them.
enum Format {
    /// `--bytes`: exact numbers instead of binary units.
    nonisolated(unsafe) static var exactBytes = false

    /// `3.2 MiB`.
    static func bytes(_ count: UInt64) -> String {
        guard !exactBytes, count >= 1024 else { return exactBytes ? "\(count)" : "\(count) B" }
        var value = Double(count)
        var unit = 0
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
        while value >= 1023.95, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return "\(fixed(value, value < 10 ? 2 : 1)) \(units[unit])"
    }

    /// `1 run`, `2 runs`.
    static func count(_ number: Int, _ what: String) -> String { "\(number) \(what)\(number == 1 ? "" : "s")" }

    /// A fixed number of digits behind the point.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
        var buffer = [CChar](repeating: 0, count: 400)
        _ = withVaList([value]) { vsnprintf(&buffer, buffer.count, "%.\(digits)f", $0) }
        return text(buffer)
    }

    /// Four significant digits, as `1.234e-05` where that is shorter.
    static func significant(_ value: Double, digits: Int = 4) -> String {
        guard value.isFinite else { return fixed(value, 0) }
        var buffer = [CChar](repeating: 0, count: 64)
        _ = withVaList([value]) { vsnprintf(&buffer, buffer.count, "%.\(digits)g", $0) }
        return text(buffer)
    }

    static func percent(_ part: UInt64, of whole: UInt64) -> String {
        whole == 0 ? "0 %" : "\(fixed(100 * Double(part) / Double(whole), 1)) %"
    }

    /// Local time to the minute.
    static func time(_ nanoseconds: Int64) -> String {
        var seconds = time_t(nanoseconds / 1_000_000_000)
        var parts = tm()
        localtime_r(&seconds, &parts)
        var buffer = [CChar](repeating: 0, count: 64)
        strftime(&buffer, buffer.count, "%Y-%m-%d %H:%M", &parts)
        return text(buffer)
    }

    /// `1:05` or `1:02:03`.
    static func duration(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds < 1e7 else { return "?" }
        let total = Int(seconds.rounded(.up))
        let rest = total % 60
        let padded = rest < 10 ? "0\(rest)" : "\(rest)"
        guard total >= 3600 else { return "\(total / 60):\(padded)" }
        let minutes = total / 60 % 60
        return "\(total / 3600):\(minutes < 10 ? "0" : "")\(minutes):\(padded)"
    }

    private static func text(_ buffer: [CChar]) -> String {
        String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// Rate and time left of work of known size.
struct Meter {
    private let start = Clock.seconds

    func line(_ what: String, _ done: UInt64, _ total: UInt64) -> String {
        let seconds = max(Clock.seconds - start, 0.001)
        let rate = Double(done) / seconds
        let left = rate > 0 ? Double(total - min(done, total)) / rate : .infinity
        return "\(what)  \(Format.percent(done, of: total))  \(Format.bytes(done)) of \(Format.bytes(total))"
            + "  \(Format.bytes(UInt64(rate)))/s  ETA \(Format.duration(left))"
    }

    /// The same for tokens, or what else is counted.
    func tokens(_ what: String, _ done: UInt64, _ total: UInt64, unit: String = "tokens") -> String {
        let rate = Double(done) / max(Clock.seconds - start, 0.001)
        let left = rate > 0 ? Double(total - min(done, total)) / rate : .infinity
        return "\(what)  \(Format.percent(done, of: total))  \(done) of \(total) \(unit)"
            + "  \(UInt64(rate))/s  ETA \(Format.duration(left))"
    }
}
