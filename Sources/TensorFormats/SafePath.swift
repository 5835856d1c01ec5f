/// Checks on names that a file gives for other files, before they are joined to a directory.
public enum SafePath {
    /// Refuses a relative name that could leave its directory or mean two things: absolute, empty, holding a
    /// NUL, or with an empty, `.` or `..` component.
    ///
    /// - Parameters:
    ///   - name: a name with `/` between its components.
    ///   - path: the file that holds the name, for the error.
    /// - Throws: `.unsafeName`.
    /// - Complexity: O(n) in the length of the name.
    public static func check(_ name: String, in path: String) throws(FormatError) {
        let utf8 = name.utf8
        guard !utf8.isEmpty else {
            throw FormatError(.unsafeName, path: path, "an empty file name")
        }
        let problem: String? =
            if utf8.first == UInt8(ascii: "/") {
                "is absolute"
            } else if utf8.contains(0) {
                "holds a NUL"
            } else {
                utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
                    .lazy.compactMap { component -> String? in
                        if component.isEmpty { return "has an empty component" }
                        if component.elementsEqual(".".utf8) { return "has a \".\" component" }
                        if component.elementsEqual("..".utf8) { return "has a \"..\" component" }
                        return nil
                    }.first
            }
        if let problem {
            throw FormatError(.unsafeName, path: path, "the file name \"\(printable(name))\" \(problem)")
        }
    }

    /// The name cut to a length and freed of control characters, so that an error stays one line.
    static func printable(_ name: String) -> String {
        var line = ""
        for scalar in name.unicodeScalars.prefix(120) {
            if scalar.value < 0x20 || scalar.value == 0x7f {
                line += "\\u{" + String(scalar.value, radix: 16) + "}"
            } else {
                line.unicodeScalars.append(scalar)
            }
        }
        return name.unicodeScalars.count > 120 ? line + "..." : line
    }
}
