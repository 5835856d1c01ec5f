/// A page that needs nothing but itself: its styles and scripts stand in it, and it may load nothing.
enum HTMLPage {
    /// - Parameters:
    ///   - heading: what the page begins with.
    ///   - body: markup, behind the heading.
    static func html(title: String, heading: String, style: String, body: String) -> String {
        """
        <!DOCTYPE html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width">
        <meta http-equiv="Content-Security-Policy"
          content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
        <title>\(title.escapedForHTML)</title>
        <style>
        \(style)
        </style>
        </head>
        <body>
        <h1>\(heading.escapedForHTML)</h1>
        \(body)</body>
        </html>

        """
    }
}
