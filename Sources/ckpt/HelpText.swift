extension String {
    /// Help as it is written, its paragraphs each on one line: the parser breaks lines by the terminal's width, and would keep
    /// ours too. Lines that are indented, and headings above such, stay as they are.
    var flowing: String {
        var lines: [String] = []
        var isOpen = false
        for line in split(separator: "\n", omittingEmptySubsequences: false) {
            let isPlain = !line.isEmpty && !line.hasPrefix(" ") && line != ExitStatus.heading
            if isPlain, isOpen {
                lines[lines.count - 1] += " " + line
            } else {
                lines.append(String(line))
            }
            isOpen = isPlain
        }
        return lines.joined(separator: "\n")
    }
}
