import CheckpointStore
import Foundation
import TestSupport
import Testing

/// `ckpt diff` of weights as a user meets it.
@Suite struct DiffCommandTests {
    private func rows(_ json: [String: Any]) throws -> [[String: Any]] { try #require(json["rows"] as? [[String: Any]]) }

    @Test func inFull() throws {
        let playground = try OutputPlayground()
        let plain = try playground.run(["diff", "m@1", "m@2"]).output
        #expect(plain.contains("RELATIVE") && !plain.contains("ULPS") && !plain.contains("RANK"))
        let full = try playground.run(["diff", "m@1", "m@2", "--full"]).output
        #expect(full.contains("ULPS") && !full.contains("rows   "))
        // The tokens of the embedding have names: the second model has a tokenizer.
        let one = try playground.run(["diff", "m@1", "m@2", "--full", "--only", "*embed*", "--spectrum", "3"]).output
        #expect(one.contains("rows   ") && one.contains("columns") && one.contains("sigma") && one.contains("TOP 3") && one.contains("\""), "\(one)")
        let ulps = try playground.run(["diff", "m@1", "m@2", "--full", "--sort", "ulps", "--by", "kind", "--plot"]).output
        #expect(ulps.contains("KIND") && ulps.contains("words by distance in ulps") && ulps.contains("█"))
    }

    @Test func everyFigureInJSON() throws {
        let playground = try OutputPlayground()
        let json = try playground.json(["diff", "m@1", "m@2", "--spectrum", "4", "--norms", "--limit", "0"])
        let documented = [
            "name", "file", "part", "layer", "kind", "dtype", "shape", "changed", "words", "first_l2", "second_l2", "delta_l2", "relative_l2", "cosine", "max_abs", "sign_flips",
            "nonfinite", "mean_ulps", "ulp_histogram",
        ]
        for row in try rows(json) {
            let keys = Set(row.keys)
            #expect(keys.isSuperset(of: documented) && keys.subtracting(documented).isSubset(of: ["rows", "columns", "heads", "spectrum"]), "\(keys)")
            let histogram = try #require(row["ulp_histogram"] as? [Int])
            #expect(histogram.reduce(0, +) == (row["words"] as? Int) && histogram.first == (row["words"] as! Int) - (row["changed"] as! Int))
            guard let shape = row["shape"] as? [Int], shape.count == 2 else {
                #expect(row["rows"] == nil && row["spectrum"] == nil)
                continue
            }
            for (axis, count) in [("rows", shape[0]), ("columns", shape[1])] {
                let axis = try #require(row[axis] as? [String: Any])
                let norms = try #require(axis["norms"] as? [Double])
                #expect(axis["count"] as? Int == count && norms.count == count)
                let square = norms.reduce(0) { $0 + $1 * $1 }
                #expect(abs(square.squareRoot() - (row["delta_l2"] as! Double)) <= 1e-6 * square.squareRoot())
                let top = try #require(axis["top"] as? [[String: Any]])
                #expect(top.first?["norm"] as? Double == norms.max())
            }
            let spectrum = try #require(row["spectrum"] as? [String: Any])
            #expect((spectrum["values"] as? [Double])?.count == 4 && (spectrum["energy"] as! Double) <= 1)
        }
        let names = try rows(json).compactMap { $0["name"] as? String }
        #expect(try rows(json).contains { $0["heads"] != nil } && names.count > 5)
        let less = try playground.json(["diff", "m@1", "m@2", "--only", "*norm*"])
        #expect(try rows(less).allSatisfy { ($0["name"] as! String).contains("norm") } && !rows(less).isEmpty)
    }

    @Test func alongARun() throws {
        let playground = try OutputPlayground()
        let text = try playground.run(["diff", "--along", "m"]).output
        #expect(text.contains("STRAIGHT") && text.contains("layer 0") && text.contains("2 snapshots, m@1 to m@2"), "\(text)")
        #expect(try playground.run(["diff", "--along", "m", "--plot"]).output.contains("1 to 2"))
        let json = try playground.json(["diff", "--along", "m", "--by", "tensor", "--limit", "0"])
        let total = try playground.json(["diff", "m@1", "m@2", "--limit", "0"])["total"] as! [String: Any]
        let way = try #require(json["total"] as? [String: Any])
        #expect(abs((way["distance"] as! Double) - (total["delta_l2"] as! Double)) < 1e-6 * (total["delta_l2"] as! Double))
        #expect(way["path"] as? Double == way["distance"] as? Double && (way["lengths"] as! [Double]).count == 1)
        #expect((json["snapshots"] as! [[String: Any]]).map { $0["ref"] as! String } == ["m@1", "m@2"])
    }

    @Test func refusals() throws {
        let playground = try OutputPlayground()
        for arguments in [
            [], ["m@1"], ["m@1", "m@2", "--spectrum", "0"], ["m@1", "m@2", "--spectrum", "65"], ["m@1", "m@2", "--norms"], ["m@1", "--along", "m"],
            ["--along", "m", "--full"], ["--along", "m", "--spectrum", "2"], ["m@1", "m@2", "--probe", "p", "--html", "x.html"],
            ["--along", "m", "--probe", "p"], ["m@1", "m@2", "--spectrum", "2", "--by", "layer"], ["m@1", "m@2", "--norms", "--json", "--by", "kind"],
        ] { try playground.expectFailure(64, ["diff"] + arguments) }
        try playground.expectFailure(66, ["diff", "m@1", "m@2", "--only", "nothing*"], saying: "nothing*")
        try playground.expectFailure(66, ["diff", "--along", "m", "--only", "nothing*"], saying: "nothing*")
        try playground.expectFailure(66, ["diff", "--along", "nowhere"], saying: "nowhere")
        try playground.expectFailure(65, ["diff", "--along", "other"], saying: "two snapshots at least")
        try playground.expectFailure(65, ["diff", "m@1", "./nowhere"], saying: "no such file")
        // A page is written over no checkpoint that is compared, over nothing but a regular file, and not to stdout.
        let checkpoint = playground.directory.path + "/m/checkpoint-1/model.safetensors"
        try playground.expectFailure(65, ["diff", checkpoint, "m@2", "--html", checkpoint], saying: "compared")
        try playground.expectFailure(65, ["diff", "m@1", "m@2", "--html", "/dev/null"], saying: "not a regular file")
        try playground.expectFailure(65, ["diff", "m@1", "m@2", "--html", playground.directory.path], saying: "not a regular file")
        try playground.expectFailure(65, ["diff", "m@1", "m@2", "--html", "-"])
        // A page that cannot be written is said so.
        let page = try Command.run(["diff", "m@1", "m@2", "--html", playground.directory.path + "/none/x.html", "--store", playground.store])
        #expect(page.status == 1 && page.errorLines.last?.contains("none") == true, "\(page)")
    }
}
