import CheckpointStore
import LanguageModel

#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// Makes the tokens of samples that come as text.
struct ProbeTokenizer {
    private let samples: SampleTokenizer?

    /// - Parameters:
    ///   - source: a directory with a tokenizer.json, or a snapshot that has one; nil: none was named.
    ///   - appendsEnd: whether a completion that lacks an end of sequence gets one.
    ///   - file: the probe file, as hints name it.
    init(_ source: String?, appendsEnd: Bool, file: String, _ store: Store) throws(StoreError) {
        guard let source else {
            samples = nil
            return
        }
        let (files, directory) = try ProbeTokenizer.files(source, store)
        do throws(LanguageModelError) {
            var samples = try SampleTokenizer(files, appendsEnd: appendsEnd)
            samples.unknownTemplateHint = ProbeTokenizer.hint(directory: directory, file: file)
            self.samples = samples
        } catch {
            throw StoreError(running: error, source)
        }
    }

    /// SHA-256 of the tokenizer.json; nil without one.
    var id: ContentID? { samples?.id }

    /// The bytes a token stands for; nil when unknown.
    func piece(_ token: Int32) -> [UInt8]? { samples?.piece(token) }

    /// Says on stderr which lines have text that their tokens do not.
    func noteLosses(_ lines: [ProbeLine]) {
        if let samples { ProbeTokenizer.noteLosses(lines, samples) }
    }

    static func noteLosses(_ lines: [ProbeLine], _ samples: SampleTokenizer) {
        let lossy = lines.filter(samples.isLossy).map(\.id)
        guard !lossy.isEmpty else { return }
        let shown = lossy.prefix(3).joined(separator: ", ") + (lossy.count > 3 ? ", ..." : "")
        Console.error(
            Console.printable("ckpt: note: \(Format.count(lossy.count, "sample")) with characters that the tokenizer leaves out: \(shown)"))
    }

    /// The sample of a line of text.
    func sample(_ line: ProbeLine) throws(StoreError) -> ProbeSample {
        guard let samples else {
            throw StoreError(
                .badInput, "\(line.place): sample \"\(line.id)\" is text, and no tokenizer is named",
                hint: "--tokenizer DIR, with a tokenizer.json in it, or --tokenizer REF, a snapshot that has one")
        }
        do throws(LanguageModelError) {
            return try samples.sample(line)
        } catch {
            throw StoreError(running: error, line.place)
        }
    }

    /// The files, and the directory they are in as a shell is told it. A directory when there is one of that name and it looks
    /// like one, or no snapshot has the name.
    static func files(_ source: String, _ store: Store) throws(StoreError) -> (Sidecars, directory: String) {
        let exists = access(source, F_OK) == 0
        if exists, source.contains("/") { return (try Sidecars(directory: source), quoted(source)) }
        do throws(StoreError) {
            return (try store.sidecars(source), "\"$(ckpt path \(quoted(source)))\"")
        } catch {
            guard exists, error.code == .noSuchRef else { throw error }
            return (try Sidecars(directory: source), quoted(source))
        }
    }

    /// How transformers makes the tokens: those of the whole conversation, of which the last turn is supervised.
    private static func hint(directory: String, file: String) -> String {
        let program = [
            "import json,sys", "from transformers import AutoTokenizer as A", "t=A.from_pretrained(sys.argv[1])",
            "f=lambda m,g:t.apply_chat_template(m,add_generation_prompt=g,return_dict=False,date_string=\"26 Jul 2024\")",
            "[print(json.dumps({\"id\":r.get(\"id\",n),\"input_ids\":w,\"completion_start\":len(p)}))"
                + " for n,r in enumerate(map(json.loads,open(sys.argv[2])),1) for m in [r[\"messages\"]]"
                + " for w in [f(m,False)] for p in [f(m[:-1],True)]"
                + " if w[:len(p)]==p or sys.exit(f\"line {n}: the prompt is not how the whole begins\")]",
        ].joined(separator: ";")
        return "add tokens that transformers made, with the last turn supervised: python3 -c '\(program)' \(directory) \(quoted(file)) > tokens.jsonl"
    }

    /// A word as a shell reads it back.
    private static func quoted(_ word: String) -> String {
        let isPlain = !word.isEmpty && word.utf8.allSatisfy {
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= $0 || UInt8(ascii: "A")...UInt8(ascii: "Z") ~= $0
                || UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 || "/._-@~:".utf8.contains($0)
        }
        return isPlain ? word : "'" + word.replacing("'", with: "'\\''") + "'"
    }
}
