import CheckpointReports
import CheckpointStore

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A diff as a page to look at, which needs nothing but itself: its figures are those of `--json`, drawn by the script in it.
struct DiffPage {
    let title: String
    /// All tensors, as `DiffReport.everything` has them.
    let comparison: JSONOutput
    /// The way of a run by layer; nil when two checkpoints were compared.
    var trajectory: JSONOutput?

    /// Refuses a place where no page can be written, before all is reckoned: what is there is replaced if it is a regular file, and is none of the
    /// checkpoints compared.
    ///
    /// - Throws: `.badInput`.
    static func check(_ path: String, besides checkpoints: [String]) throws(StoreError) {
        guard path != "-", !path.isEmpty else { throw StoreError(.badInput, "--html: a file is needed", hint: "--html diff.html") }
        var status = stat()
        if stat(path, &status) == 0 {
            guard status.st_mode & S_IFMT == S_IFREG else { throw StoreError(.badInput, "\(path): not a regular file, so no page is written there") }
            for checkpoint in checkpoints {
                var other = stat()
                if stat(checkpoint, &other) == 0, other.st_dev == status.st_dev, other.st_ino == status.st_ino {
                    throw StoreError(.badInput, "\(path): this is a checkpoint that is compared", hint: "name another file with --html")
                }
            }
        }
        let directory = path.lastIndex(of: "/").map { String(path[..<$0]) + "/" } ?? "."
        guard access(directory, W_OK) == 0 else {
            throw StoreError(.failed, "\(path): no page can be written there", hint: "\(directory) is missing, or may not be written to")
        }
    }

    /// - Throws: `StoreError` naming the file.
    func write(to path: String) throws(StoreError) {
        try DurableFile.write(Array(html.utf8), to: path)
    }

    var html: String {
        let data: JSONOutput = ["title": .string(title), "diff": DiffPage.rounded(comparison), "along": DiffPage.rounded(trajectory ?? .null)]
        // In a script no "<" may stand that could be taken for the end of it: none of the text's scalars, whatever they make characters with.
        let text = data.text.unicodeScalars.reduce(into: "") { text, scalar in
            if scalar == "<" { text += "\\u003c" } else { text.unicodeScalars.append(scalar) }
        }
        let body = """
            <noscript>This page draws its figures with a script of its own, which is switched off here.</noscript>
            <dl id="facts"></dl>
            <p class="list">Of the weights: an optimizer's state is not here. Identical tensors are in no figure.</p>
            <section id="along" hidden>
            <h2>Layer by step</h2>
            <p class="controls"><label>Show <select id="along-measure">
            <option value="speeds">distance a step of training</option><option value="cosines">cosine with the update before</option>
            <option value="distances">distance from the first snapshot</option><option value="changed">share of words changed</option>
            </select></label> <label><input type="checkbox" id="along-rows"> each layer by its own largest</label></p>
            <div class="map"><canvas id="along-map" role="img" aria-label="How far each layer moved from snapshot to snapshot"></canvas></div>
            <p class="read" id="along-read">&#160;</p>
            </section>
            <section id="matrices">
            <h2>Layer by matrix</h2>
            <p class="controls"><label>Show <select id="measure">
            <option value="relative">relative L2</option><option value="changed">share of words changed</option>
            <option value="ulps">mean distance in ulps</option><option value="turn">1 - cosine</option>
            </select></label></p>
            <div class="map"><canvas id="layers" role="img" aria-label="How far each matrix of each layer moved"></canvas></div>
            <p class="read" id="layers-read">&#160;</p>
            </section>
            <section class="columns">
            <div>
            <h2>Tensors</h2>
            <p class="controls"><input id="filter" type="search" placeholder="Filter by name, layer, kind or type" aria-label="Filter tensors"> <span id="count"></span></p>
            <div class="scroll"><table id="tensors"><thead></thead><tbody></tbody></table></div>
            </div>
            <div id="detail" aria-live="polite">
            <h2 id="detail-name">All tensors</h2>
            <div id="detail-body"></div>
            </div>
            </section>
            <script type="application/json" id="data">\(text)</script>
            <script>
            \(DiffPage.script)
            </script>

            """
        return HTMLPage.html(title: "ckpt diff: \(title)", heading: title, style: DiffPage.style, body: body)
    }

    /// Six digits of each number, more than are shown: models of thousands of matrices make large pages.
    private static func rounded(_ value: JSONOutput) -> JSONOutput {
        switch value {
        case .double(let number): return .double(Double(Format.significant(number, digits: 6)) ?? number)
        case .array(let values): return .array(values.map(rounded))
        // What a cosine lacks to 1 is shown too.
        case .object(let members): return .object(members.map { ($0.0, $0.0 == "cosine" ? $0.1 : rounded($0.1)) })
        default: return value
        }
    }

    private static let style = """
        :root {
          color-scheme: light dark;
          --ink: #1d2127; --faint: #68707c; --rule: #dde1e7; --paper: #fff; --mark: #1f5fbf; --hot: #b4540a; --row: #f3f6fa;
        }
        @media (prefers-color-scheme: dark) {
          :root { --ink: #e4e7ec; --faint: #98a1ae; --rule: #363c46; --paper: #16191e; --mark: #79abf5; --hot: #f0a35e; --row: #1f242c; }
        }
        body { margin: 2rem auto; max-width: 96rem; padding: 0 1rem; background: var(--paper); color: var(--ink); }
        body, select, input { font: 15px/1.45 system-ui, sans-serif; }
        h1 { font-size: 1.4rem; overflow-wrap: anywhere; }
        h2 { font-size: 1.1rem; overflow-wrap: anywhere; margin: 1.6rem 0 .4rem; }
        h3 { font-size: .95rem; margin: 1rem 0 .2rem; font-weight: 600; }
        dl { display: flex; flex-wrap: wrap; gap: .4rem 2.2rem; margin: 1rem 0; }
        dt { color: var(--faint); font-size: .85rem; }
        dd { margin: 0; font-size: 1.15rem; font-variant-numeric: tabular-nums; }
        .controls { margin: .3rem 0; display: flex; flex-wrap: wrap; gap: .4rem 1.4rem; align-items: center; }
        input[type=search] { min-width: min(24rem, 90vw); }
        select, input[type=search] { color: inherit; background: var(--paper); border: 1px solid var(--rule); border-radius: 4px; padding: .15rem .4rem; }
        .map { overflow-x: auto; }
        canvas { display: block; }
        .read { margin: .2rem 0 0; min-height: 1.45em; color: var(--faint); font-variant-numeric: tabular-nums; }
        .columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(18rem, 1fr); gap: 0 2.5rem; align-items: start; }
        @media (max-width: 70rem) { .columns { grid-template-columns: minmax(0, 1fr); } }
        #detail { position: sticky; top: 0; max-height: 100vh; overflow: auto; }
        .scroll { overflow: auto; max-height: 80vh; }
        table { border-collapse: collapse; width: 100%; }
        td, th { padding: .15rem .7rem .15rem 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; }
        td { font-variant-numeric: tabular-nums; }
        td:first-child, th:first-child, td.text, th.text { text-align: left; }
        td:first-child { overflow-wrap: anywhere; white-space: normal; min-width: 14rem; }
        thead th { position: sticky; top: 0; background: var(--paper); }
        th button { all: unset; cursor: pointer; color: var(--faint); font-weight: 500; }
        th button:focus-visible, tr:focus-visible { outline: 2px solid var(--mark); }
        th[aria-sort] button { color: var(--ink); }
        th[aria-sort=descending] button::after { content: " \\2193"; }
        th[aria-sort=ascending] button::after { content: " \\2191"; }
        tbody tr { cursor: pointer; }
        tbody tr:hover, tbody tr[aria-selected=true] { background: var(--row); }
        .bars { display: grid; grid-template-columns: auto 1fr auto; gap: 1px .6rem; align-items: center; font-size: .85rem; }
        .bars span { color: var(--faint); font-variant-numeric: tabular-nums; white-space: nowrap; }
        .bars i { display: block; height: .8rem; background: var(--mark); min-width: 1px; }
        .strip { display: flex; align-items: flex-end; height: 3.2rem; gap: 1px; border-bottom: 1px solid var(--rule); }
        .strip i { flex: 1; background: var(--mark); min-width: 1px; }
        .strip i:hover { background: var(--hot); }
        .list { margin: .2rem 0; color: var(--faint); font-size: .85rem; overflow-wrap: anywhere; }
        """
}
