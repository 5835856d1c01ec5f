import Foundation
import TestSupport
import Testing

/// The page that `ckpt diff --html` writes, as a browser shows it. Where no browser is installed, only what can be told from its text.
@Suite struct DiffPageTests {
    private static let browser = ["chromium", "chromium-browser", "google-chrome"].lazy.flatMap { name in
        (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map { "\($0)/\(name)" }
    }.first { FileManager.default.isExecutableFile(atPath: $0) }

    private func page(_ arguments: [String], _ playground: OutputPlayground) throws -> String {
        let path = playground.directory.path + "/page.html"
        try playground.run(["diff"] + arguments + ["--html", path])
        return try String(contentsOfFile: path, encoding: .utf8)
    }

    @Test func needsNothingButItself() throws {
        let playground = try OutputPlayground()
        for arguments in [["m@1", "m@2", "--spectrum", "4"], ["--along", "m"]] {
            let html = try page(arguments, playground)
            for bad in ["http:", "https:", "src=", "@import", "url("] { #expect(!html.contains(bad), "\(bad)") }
            #expect(html.contains("prefers-color-scheme: dark") && html.contains("default-src 'none'"))
            // One end of a script each, whatever the names in it.
            #expect(html.components(separatedBy: "</script>").count == 3)
        }
    }

    /// Names come from files: none of them is markup in the page.
    @Test func hostileNames() throws {
        let playground = try OutputPlayground()
        let names = ["</script><script>document.title='caught'</script>", "<img src=x onerror=\"document.title='caught'\">", "a\u{2028}b", "&lt;\\u003c",
            // Scalars that make one character with what comes behind them.
            "\u{0600}</script>\u{0600}<script>document.title='caught'//\u{0600}</script>"]
        for side in ["a", "b"] {
            var header: [String] = []
            for (index, name) in names.enumerated() {
                let key = String(decoding: try JSONEncoder().encode(name), as: UTF8.self)
                header.append("\(key):{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[\(index * 16),\(index * 16 + 16)]}")
            }
            let text = Array("{\(header.joined(separator: ","))}".utf8)
            let data = withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + [UInt8](repeating: side == "a" ? 1 : 2, count: 16 * names.count)
            try FileTree.write(data, to: playground.directory.path + "/\(side).safetensors")
        }
        let html = try page([playground.directory.path + "/a.safetensors", playground.directory.path + "/b.safetensors"], playground)
        let data = html.utf8.split(separator: Array("id=\"data\">".utf8), maxSplits: 1)[1].split(separator: Array("</script>".utf8), maxSplits: 1)[0]
        #expect(!data.contains(UInt8(ascii: "<")))
        guard DiffPageTests.browser != nil else { return }
        let answer = try run(
            "answer.names = [...element('tensors').tBodies[0].rows].map(row => row.cells[0].textContent); answer.images = document.images.length;",
            in: html, playground)
        #expect(answer["error"] == nil && answer["images"] as? Int == 0 && Set(answer["names"] as! [String]) == Set(names), "\(answer)")
    }

    /// Runs `script`, which ends by setting `document.title`, in the page, and returns what it set.
    private func run(_ script: String, in html: String, _ playground: OutputPlayground) throws -> [String: Any] {
        let path = playground.directory.path + "/run.html"
        let added = """
            <script>
            const answer = {};
            try {
            \(script)
            } catch (error) { answer.error = String(error); }
            document.title = "answer " + btoa(String.fromCharCode(...new TextEncoder().encode(JSON.stringify(answer))));
            </script>
            </body>
            """
        try html.replacing("</body>", with: added).write(toFile: path, atomically: true, encoding: .utf8)
        let process = Process()
        process.executableURL = URL(filePath: DiffPageTests.browser!)
        process.arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900", "--user-data-dir=\(playground.directory.path)/profile",
            "--virtual-time-budget=2000", "--dump-dom", "file://" + path,
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        let title = try #require(text.firstMatch(of: #/<title>answer ([A-Za-z0-9+\/=]*)</title>/#), "\(text.prefix(2000))")
        let json = try #require(Data(base64Encoded: String(title.1)))
        return try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
    }

    @Test(.enabled(if: browser != nil, "no browser is installed"))
    func inABrowser() throws {
        let playground = try OutputPlayground()
        let html = try page(["m@1", "m@2", "--spectrum", "4"], playground)
        let rows = try playground.json(["diff", "m@1", "m@2", "--limit", "0"])["rows"] as! [[String: Any]]
        let answer = try run(
            """
            const body = () => element("tensors").tBodies[0].rows, cell = (row, column) => body()[row].cells[column].textContent;
            answer.rows = body().length;
            answer.first = cell(0, 0);
            answer.facts = element("facts").textContent;
            // Sorting: by name, and back.
            document.querySelectorAll("th button")[0].click();
            answer.byName = cell(0, 0);
            document.querySelectorAll("th button")[0].click();
            answer.byNameDown = cell(0, 0);
            answer.sort = document.querySelectorAll("th")[0].getAttribute("aria-sort");
            // Filtering.
            element("filter").value = "embed";
            element("filter").dispatchEvent(new Event("input"));
            answer.filtered = body().length;
            answer.count = element("count").textContent;
            // One tensor's details.
            body()[0].click();
            answer.name = element("detail-name").textContent;
            answer.detail = element("detail-body").textContent;
            answer.strips = document.querySelectorAll(".strip i").length;
            // What a heat map says of the cell under the pointer.
            const map = element("layers"), box = map.getBoundingClientRect();
            answer.painted = [...map.getContext("2d").getImageData(0, 0, map.width, map.height).data].filter((x, i) => i % 4 === 3 && x > 0).length;
            const said = new Set();
            for (let x = 0; x < box.width; x += 3) for (let y = 0; y < box.height; y += 3) {
              map.onpointermove({ clientX: box.left + x, clientY: box.top + y });
              said.add(element("layers-read").textContent);
            }
            answer.said = [...said];
            answer.hidden = element("along").hidden;
            """, in: html, playground)
        #expect(answer["error"] == nil, "\(answer)")
        let names = rows.map { $0["name"] as! String }
        #expect(answer["rows"] as? Int == rows.count)
        let furthest = rows.max { ($0["relative_l2"] as? Double ?? .infinity) < ($1["relative_l2"] as? Double ?? .infinity) }!
        #expect(answer["first"] as? String == furthest["name"] as? String)
        #expect(answer["byName"] as? String == names.min() && answer["byNameDown"] as? String == names.max() && answer["sort"] as? String == "descending")
        let embeddings = names.filter { $0.contains("embed") }
        #expect(answer["filtered"] as? Int == embeddings.count && (answer["count"] as! String).hasPrefix("\(embeddings.count) of \(rows.count)"))
        #expect(answer["name"] as? String == embeddings[0])
        let detail = try #require(answer["detail"] as? String)
        for wanted in ["Words by distance in ulps", "Movement by row", "Movement by column", "Leading singular values", "stable rank", "“"] {
            #expect(detail.contains(wanted), "\(detail)")
        }
        #expect(answer["strips"] as! Int > 20 && answer["painted"] as! Int > 1000 && answer["hidden"] as? Bool == true)
        // Every matrix of every layer has a cell.
        let said = try #require(answer["said"] as? [String])
        for name in names { #expect(said.contains { $0.hasPrefix(name + ": relative L2") }, "\(name)") }
    }

    @Test(.enabled(if: browser != nil, "no browser is installed"))
    func aRunInABrowser() throws {
        let playground = try OutputPlayground()
        let answer = try run(
            """
            answer.hidden = element("along").hidden;
            const map = element("along-map"), box = map.getBoundingClientRect(), said = new Set();
            for (const measure of ["speeds", "cosines", "distances", "changed"]) {
              element("along-measure").value = measure;
              element("along-measure").dispatchEvent(new Event("change"));
              for (let x = 0; x < box.width; x += 3) for (let y = 0; y < box.height; y += 3) {
                map.onpointermove({ clientX: box.left + x, clientY: box.top + y });
                said.add(element("along-read").textContent);
              }
            }
            answer.said = [...said];
            """, in: page(["--along", "m"], playground), playground)
        #expect(answer["error"] == nil && answer["hidden"] as? Bool == false, "\(answer)")
        let said = try #require(answer["said"] as? [String])
        for layer in ["all", "layer 0", "outside layers"] { #expect(said.contains { $0.hasPrefix("\(layer), step 1 to 2: moved ") }, "\(said)") }
    }
}
