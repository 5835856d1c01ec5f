extension DiffPage {
    /// Draws the page's figures. Names come from files: they are set as text, never as markup.
    static let script = #"""
        "use strict";
        const data = JSON.parse(document.getElementById("data").textContent);
        const rows = data.diff.rows, total = data.diff.total, along = data.along;
        const element = id => document.getElementById(id);
        const make = (tag, text, properties) => Object.assign(document.createElement(tag), text === undefined ? {} : { textContent: text }, properties);

        const short = x => x === null || x === undefined ? "-" : x === 0 ? "0"
          : Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3 ? x.toExponential(3) : String(Number(x.toPrecision(4)));
        const percent = x => (100 * x).toFixed(1) + " %";
        const share = row => row.words > 0 ? row.changed / row.words : 0;
        // JSON has no infinity: a tensor that was all zero moved infinitely far by its own measure.
        const relative = row => row.relative_l2 === null ? Infinity : row.relative_l2;
        const finite = x => x === null ? Infinity : x;
        const largest = values => values.reduce((most, x) => Math.max(most, x), 0);
        const shown = x => x === Infinity ? "∞" : short(x);

        // -- facts
        const fact = (name, value) => element("facts").append((() => {
          const box = make("div");
          box.append(make("dt", name), make("dd", value));
          return box;
        })());
        fact("tensors compared", String(rows.length));
        fact("identical, not read", String(data.diff.identical));
        if (data.diff.mismatched.length) fact("without a counterpart", String(data.diff.mismatched.length));
        if (total) {
          fact("words changed", percent(share(total)));
          fact("delta L2", short(total.delta_l2));
          fact("relative L2", shown(relative(total)));
          fact("cosine", total.cosine === null ? "-" : total.cosine.toFixed(6));
          fact("mean distance", short(total.mean_ulps) + " ulps");
          fact("sign flips", String(total.sign_flips));
          if (total.nonfinite) fact("NaN or infinite", String(total.nonfinite));
        }

        // -- heat maps
        const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
        const channels = hex => (hex.length === 4 ? [...hex.slice(1)].map(c => c + c) : hex.slice(1).match(/../g)).map(c => parseInt(c, 16));
        const blend = (from, to, t) => "rgb(" + from.map((c, i) => Math.round(c + (to[i] - c) * t)).join(",") + ")";

        /// A canvas of cells: `cells[row][column]` is a number or null. Values below zero are drawn in the second color.
        function heatMap(canvas, read, rowNames, columnNames, cells, describe, hasOwnScale, format) {
          const cell = Math.max(4, Math.min(36, Math.floor(900 / Math.max(1, columnNames.length)))), height = rowNames.length > 60 ? 10 : 18;
          const longest = names => names.reduce((most, name) => Math.max(most, name.length), 0);
          const left = Math.min(260, 14 + 6.4 * longest(rowNames)), slanted = cell < 7 * longest(columnNames);
          const top = slanted ? Math.min(150, 16 + 4.6 * longest(columnNames)) : 22;
          const ratio = window.devicePixelRatio || 1, width = left + cell * columnNames.length + (slanted ? 90 : 10);
          canvas.width = width * ratio; canvas.height = (top + height * rowNames.length + 4) * ratio;
          canvas.style.width = width + "px"; canvas.style.height = canvas.height / ratio + "px";
          const pen = canvas.getContext("2d");
          pen.scale(ratio, ratio);
          const paper = channels(color("--paper")), mark = channels(color("--mark")), hot = channels(color("--hot"));
          const size = x => Number.isFinite(x) ? Math.abs(x) : 0;
          const most = cells.reduce((most, row, y) => hasOwnScale(y) ? most : row.reduce((most, x) => Math.max(most, size(x)), most), 0);
          const infinite = cells.some(row => row.some(x => x === Infinity));
          const resting = infinite ? "strongest: NaN or infinite; point at a cell to read it" : most > 0 ? "strongest: " + format(most) + "; point at a cell to read it" : "\u00a0";
          read.textContent = resting;
          pen.font = "11px system-ui, sans-serif";
          pen.textBaseline = "middle";
          rowNames.forEach((name, y) => {
            const scale = hasOwnScale(y) ? cells[y].reduce((most, x) => Math.max(most, size(x)), 0) : most;
            cells[y].forEach((value, x) => {
              if (value === null || value === undefined) return;
              const t = value === Infinity ? 1 : scale > 0 ? Math.sqrt(size(value) / scale) : 0;
              pen.fillStyle = blend(paper, value < 0 ? hot : mark, .06 + .94 * t);
              pen.fillRect(left + x * cell, top + y * height, Math.max(1, cell - 1), height - 1);
            });
            if (height >= 12 || y % 5 === 0) {
              pen.fillStyle = color("--faint");
              pen.fillText(name, 0, top + y * height + height / 2, left - 6);
            }
          });
          const step = slanted ? Math.max(1, Math.ceil(20 / cell)) : 1;
          columnNames.forEach((name, x) => {
            if (x % step) return;
            pen.save();
            pen.translate(left + x * cell + cell / 2, top - 6);
            if (slanted) pen.rotate(-.7);
            pen.textAlign = slanted ? "left" : "center";
            pen.fillStyle = color("--faint");
            pen.fillText(name, 0, 0);
            pen.restore();
          });
          canvas.onpointermove = event => {
            const box = canvas.getBoundingClientRect();
            const x = Math.floor((event.clientX - box.left - left) / cell), y = Math.floor((event.clientY - box.top - top) / height);
            const inside = x >= 0 && x < columnNames.length && y >= 0 && y < rowNames.length && cells[y][x] !== null && cells[y][x] !== undefined;
            read.textContent = inside ? describe(y, x) : resting;
            canvas.style.cursor = inside ? "crosshair" : "";
          };
          canvas.onpointerleave = () => { read.textContent = resting; };
        }

        function drawAlong() {
          if (!along || !along.rows.length) return;
          element("along").hidden = false;
          const measure = element("along-measure").value, stops = along.snapshots;
          const values = row => measure === "cosines" ? [null, ...row.cosines] : measure === "changed" ? row.changed.map(x => x / row.words) : row[measure];
          const all = along.total ? [along.total, ...along.rows] : along.rows;
          const names = all.map((row, i) => i === 0 && along.total ? "all" : row.name);
          const columns = stops.slice(1).map(stop => String(stop.step));
          heatMap(element("along-map"), element("along-read"), names, columns, all.map(values), (y, x) => {
            const row = all[y], cosine = x > 0 ? row.cosines[x - 1] : null;
            return names[y] + ", step " + stops[x].step + " to " + stops[x + 1].step + ": moved " + short(row.lengths[x]) + " (" + short(row.speeds[x])
              + " a step), " + short(row.distances[x]) + " from the first, cosine " + short(cosine) + ", " + percent(row.changed[x] / row.words)
              + " of words changed" + (row.nonfinite[x] ? ", " + row.nonfinite[x] + " words NaN or infinite" : "") + (row.settled_step === null ? "" : "; settled at step " + row.settled_step)
              + (row.pace_change ? "; pace x" + short(row.pace_change.factor) + " from step " + row.pace_change.step : "");
          }, y => element("along-rows").checked || (y === 0 && all.length > along.rows.length), measure === "changed" ? percent : short);
        }

        /// A matrix's role: its name without the number of the layer; experts, and what else is numbered, together.
        const role = name => name.split(".").filter((part, i, parts) => i !== parts.findIndex(p => /^\d+$/.test(p)))
          .map(part => /^\d+$/.test(part) ? "*" : part).join(".").replace(/^(model|transformer)\.(layers|h|blocks)\./, "").replace(/\.weight$/, "");
        function drawLayers() {
          const measure = element("measure").value, layers = new Map(), roles = new Map();
          for (const row of rows) {
            if (row.part === "optimizer") continue;
            const column = role(row.name);
            if (!layers.has(row.layer)) layers.set(row.layer, new Map());
            roles.set(column, (roles.get(column) || 0) + 1);
            const cells = layers.get(row.layer);
            if (!cells.has(column)) cells.set(column, []);
            cells.get(column).push(row);
          }
          // Of several tensors in a cell, sums as of one.
          const value = members => {
            if (!members) return null;
            if (members.some(row => row.nonfinite > 0)) return Infinity;
            const sum = of => members.reduce((whole, row) => whole + of(row), 0);
            if (measure === "changed") return sum(row => row.changed) / Math.max(1, sum(row => row.words));
            if (measure === "ulps") return sum(row => (row.mean_ulps || 0) * row.words) / Math.max(1, sum(row => row.words));
            if (measure === "turn") {
              if (members.length === 1) return members[0].cosine === null ? 0 : 1 - members[0].cosine;
              const product = Math.sqrt(sum(row => row.first_l2 ** 2) * sum(row => row.second_l2 ** 2));
              return product > 0 ? 1 - sum(row => (row.cosine || 0) * row.first_l2 * row.second_l2) / product : 0;
            }
            const moved = sum(row => finite(row.delta_l2) ** 2), size = sum(row => finite(row.first_l2) ** 2);
            return moved === 0 ? 0 : size > 0 && size < Infinity ? Math.sqrt(moved / size) : Infinity;
          };
          const number = name => /\d/.test(name) ? Number(name.match(/\d+/)[0]) : Infinity;
          // As many columns as can be looked at, those that most tensors have.
          const columns = [...roles.keys()].sort((a, b) => roles.get(b) - roles.get(a)).slice(0, 200);
          const order = new Map([...roles.keys()].map((name, index) => [name, index]));
          columns.sort((a, b) => order.get(a) - order.get(b));
          const names = [...layers.keys()].filter(name => columns.some(column => layers.get(name).has(column))).sort((a, b) => number(a) < number(b) ? -1 : number(a) > number(b) ? 1 : 0).slice(0, 1000);
          element("matrices").hidden = names.length === 0;
          if (names.length === 0) return;
          heatMap(element("layers"), element("layers-read"), names, columns, names.map(name => columns.map(column => value(layers.get(name).get(column)))), (y, x) => {
            const members = layers.get(names[y]).get(columns[x]), row = members[0];
            return (members.length > 1 ? members.length + " tensors, " + names[y] + " " + columns[x] : row.name) + ": " + element("measure").selectedOptions[0].textContent
              + " " + shown(value(members)) + (members.length > 1 ? "" : ", " + percent(share(row)) + " of words changed, largest " + short(row.max_abs));
          }, () => false, measure === "changed" ? percent : short);
        }

        // -- the table
        const columns = [
          { title: "Tensor", text: row => row.name, key: row => row.name, isText: true },
          { title: "Shape", text: row => row.dtype + "[" + row.shape.join(",") + "]", key: row => row.words, isText: true },
          { title: "Changed", text: row => percent(share(row)), key: share },
          { title: "Delta L2", text: row => shown(finite(row.delta_l2)), key: row => finite(row.delta_l2) },
          { title: "Relative", text: row => shown(relative(row)), key: relative },
          { title: "Cosine", text: row => row.cosine === null ? "-" : row.cosine.toFixed(6), key: row => row.cosine === null ? 2 : row.cosine },
          { title: "Max", text: row => shown(finite(row.max_abs)), key: row => finite(row.max_abs) },
          { title: "Ulps", text: row => short(row.mean_ulps), key: row => row.mean_ulps || 0 },
          { title: "Flips", text: row => String(row.sign_flips), key: row => row.sign_flips },
        ];
        if (rows.some(row => row.nonfinite)) columns.push({ title: "NaN, ∞", text: row => String(row.nonfinite), key: row => row.nonfinite });
        if (rows.some(row => row.spectrum)) columns.push(
          { title: "Rank", text: row => row.spectrum ? short(row.spectrum.stable_rank) : "-", key: row => row.spectrum ? row.spectrum.stable_rank : 0 },
          { title: "Top " + largest(rows.map(row => row.spectrum ? row.spectrum.values.length : 0)), text: row => row.spectrum ? percent(row.spectrum.energy) : "-", key: row => row.spectrum ? row.spectrum.energy : 0 });
        const maximumRows = 500;
        let sorted = { column: 4, descending: true }, selected = null;
        function drawTable() {
          const words = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
          const by = columns[sorted.column];
          // What became NaN did not move less than all else.
          const key = row => row.nonfinite && sorted.descending && !by.isText ? Infinity : by.key(row);
          const order = (a, b) => (x => sorted.descending ? -x : x)(key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0);
          const found = rows.filter(row => words.every(word => [row.name, row.layer, row.kind, row.dtype, row.part].some(text => text.toLowerCase().includes(word)))).sort(order);
          element("count").textContent = found.length + " of " + rows.length + (found.length > maximumRows ? ", the first " + maximumRows + " shown" : "");
          element("tensors").tBodies[0].replaceChildren(...found.slice(0, maximumRows).map(row => {
            const line = make("tr", undefined, { tabIndex: 0, tensor: row });
            line.setAttribute("aria-selected", row === selected);
            line.append(...columns.map(column => make("td", column.text(row), column.isText ? { className: "text" } : {})));
            line.onclick = () => select(row === selected ? null : row);
            line.onkeydown = event => { if (event.key === "Enter") line.onclick(); };
            return line;
          }));
          element("tensors").tHead.replaceChildren((() => {
            const line = make("tr");
            line.append(...columns.map((column, index) => {
              const head = make("th", undefined, column.isText ? { className: "text", scope: "col" } : { scope: "col" });
              if (index === sorted.column) head.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
              const button = make("button", column.title, { type: "button" });
              button.onclick = () => {
                sorted = { column: index, descending: index === sorted.column ? !sorted.descending : !column.isText };
                drawTable();
                element("tensors").tHead.rows[0].cells[index].firstChild.focus();
              };
              head.append(button);
              return head;
            }));
            return line;
          })());
        }

        // -- one tensor, or all
        const bars = lines => {
          const box = make("div", undefined, { className: "bars" }), most = largest(lines.map(line => line.value));
          for (const line of lines) {
            const bar = make("i");
            bar.style.width = most > 0 ? 100 * line.value / most + "%" : "0";
            box.append(make("span", line.name), bar, make("span", line.text));
          }
          return box;
        };
        const strip = (values, name) => {
          const box = make("div", undefined, { className: "strip" }), most = largest(values);
          values.forEach((value, index) => {
            const bar = make("i", undefined, { title: name(index) + ": " + short(value) });
            bar.style.height = most > 0 ? Math.max(1, 100 * value / most) + "%" : "1px";
            box.append(bar);
          });
          return box;
        };
        function select(row) {
          selected = row;
          const body = element("detail-body"), of = row || total;
          element("detail-name").textContent = row ? row.name : "All tensors";
          body.replaceChildren();
          if (of && of.nonfinite) body.append(make("p", of.nonfinite + " words are NaN or infinite in one of the two: they are in no sum", { className: "list" }));
          if (of && of.ulp_histogram) {
            const pairs = of.ulp_histogram.reduce((sum, count) => sum + count, 0);
            body.append(make("h3", "Words by distance in ulps"), bars(of.ulp_histogram.map((count, index) => ({
              name: index < 2 ? String(index) : index > 40 ? "2^" + (index - 1) : 2 ** (index - 1) + " to " + (2 ** index - 1), value: count, text: pairs ? percent(count / pairs) : "-",
            }))));
          }
          for (const [name, axis] of of ? [["rows", of.rows], ["columns", of.columns]] : []) {
            if (!axis || !axis.profile.length) continue;
            const bounds = index => Math.floor(index * axis.count / axis.profile.length);
            const place = index => bounds(index + 1) - bounds(index) > 1 ? name + " " + bounds(index) + " to " + (bounds(index + 1) - 1) : name.slice(0, -1) + " " + bounds(index);
            body.append(make("h3", "Movement by " + name.slice(0, -1) + " (" + axis.count + ")"), strip(axis.profile, place));
            const top = axis.top.map(one => one.index + (one.token === undefined ? "" : " “" + one.token + "”") + " " + short(one.norm));
            body.append(make("p", top.length ? "most: " + top.join(", ") : "none moved", { className: "list" }));
          }
          if (of && of.heads) body.append(make("h3", "Movement by attention head"), strip(of.heads, index => "head " + index));
          if (of && of.spectrum) {
            body.append(make("h3", "Leading singular values"), strip(of.spectrum.values, index => "value " + (index + 1)));
            body.append(make("p", "stable rank " + short(of.spectrum.stable_rank) + "; these " + of.spectrum.values.length + " hold " + percent(of.spectrum.energy) + " of the squares", { className: "list" }));
          }
          if (row) body.append(make("p", row.file + ", " + row.part + ", " + row.layer + ", " + row.kind, { className: "list" }));
          if (!row && data.diff.mismatched.length) {
            body.append(make("h3", "Without a counterpart"), ...data.diff.mismatched.slice(0, 100).map(one => make("p", one.reason + " " + one.name, { className: "list" })));
            if (data.diff.mismatched.length > 100) body.append(make("p", (data.diff.mismatched.length - 100) + " more", { className: "list" }));
          }
          for (const line of element("tensors").tBodies[0].rows) line.setAttribute("aria-selected", line.tensor === row);
        }

        function draw() { drawAlong(); drawLayers(); }
        draw();
        drawTable();
        select(null);
        element("filter").oninput = drawTable;
        element("measure").onchange = drawLayers;
        element("along-measure").onchange = element("along-rows").onchange = drawAlong;
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
        """#
}
