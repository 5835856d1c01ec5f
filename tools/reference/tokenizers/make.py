"""Writes Tests/Golden/tokenizers: small tokenizers of each known kind, texts, and what the library makes of them.

    python make.py [OUTPUT]

Needs tokenizers and transformers (the committed files were made with 0.23.3 and 5.23.0). Downloads nothing: the
tokenizers are trained on texts that `texts.py` makes up, and the pipelines around them are set up as the named models
set them up. Two runs write the same bytes.

FAMILY.json is a tokenizer. expected.json holds `pieces` of text, as hexadecimal bytes, and for each family short texts
with their ids and the decoded text, and the hash of all ids of 200 KB: texts of one to forty pieces or added tokens,
drawn by SplitMix64 as `drawn` does it. classes.bin has the classes of each character: 1 letter, 2 number, 4 white
space, 8 mark, 16 and 32 the upper and the lower class of case-aware patterns, 64 newline, 128 digit on its own, 256 part
of a word to single-word tokens, in runs of (length as u32, classes as u16). variants.json has the small tokenizers of
variants.py with a few texts each; a file is the joined `parts` of its numbers.
"""

import hashlib
import json
import pathlib
import random
import struct
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

import texts

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + TAIL
QWEN2 = CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + TAIL
QWEN35 = CONTRACTION + (
    r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def cased(suffix, numbers):
    prefix = r"[^\r\n\p{L}\p{N}]?"
    words = f"{prefix}{UPPER}*{LOWER}+{suffix}|{prefix}{UPPER}+{LOWER}*{suffix}"
    return words + "|" + numbers + r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


TEKKEN = cased("", r"\p{N}")
O200K = cased(CONTRACTION + "?", r"\p{N}{1,3}")


def special(text, **options):
    return AddedToken(text, special=True, normalized=False, **options)


def train(tokenizer, size, added, byte_level):
    # The library breaks ties among new tokens by id, which it gives to letters by their order: two runs agree.
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, special_tokens=[],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if byte_level else [],
        limit_alphabet=1000)
    # Few enough characters that none has to be left out: which of the rare ones would be differs between runs.
    kept = [t.decode() for t in texts.corpus(1, 150_000, [], plain=True)]
    if not byte_level:
        kept = ["".join(c for c in t if ord(c) < 0x180 or 0x4E00 <= ord(c) < 0x4E80) for t in kept]
    tokenizer.train_from_iterator(kept, trainer)
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def byte_level(pattern, added, size=900, nfc=False, before=None, ignore_merges=False, digits=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tokenizer.normalizer = normalizers.NFC()
    steps = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if pattern:
        steps.append(pre_tokenizers.Split(Regex(pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not pattern))
    tokenizer.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    train(tokenizer, size, added, True)
    level = processors.ByteLevel(trim_offsets=False)
    if before:
        template = processors.TemplateProcessing(
            single=f"{before} $A", pair=f"{before} $A {before} $B:1", special_tokens=[(before, tokenizer.token_to_id(before))])
        tokenizer.post_processor = processors.Sequence([level, template])
    else:
        tokenizer.post_processor = level
    return tokenizer


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def sentencepiece(kind, added, size=1000):
    """What converted SentencePiece models look like: unknown and special tokens and all bytes first."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    marked = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = marked
    train(tokenizer, size, [], False)
    trained = json.loads(tokenizer.to_str())["model"]
    names = ["<unk>", "<s>", "</s>"] if kind != "gemma" else ["<pad>", "<eos>", "<bos>", "<unk>"]
    old = [t for t in sorted(trained["vocab"], key=trained["vocab"].get) if t not in names]
    vocab = {t: i for i, t in enumerate(dict.fromkeys(names + BYTES + old))}
    merges = [tuple(m) for m in trained["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if kind == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind[0], split=kind[1])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps if kind == "gemma" else steps + [decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([special(name) for name in names])
    for token in added:
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    start = "<bos>" if kind == "gemma" else "<s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A {start} $B:1", special_tokens=[(start, tokenizer.token_to_id(start))])
    return tokenizer


CHATML = [special("<|endoftext|>"), special("<|im_start|>"), special("<|im_end|>")]


def families():
    """Each family's name and its tokenizer."""
    llama3 = [special(t) for t in ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")]
    neox = [special("<|endoftext|>"), special("<|padding|>")]
    neox += [AddedToken(" " * n, special=False, normalized=True) for n in range(12, 1, -1)]
    odd = [
        special("<|left|>", lstrip=True), special("<|right|>", rstrip=True), special("<mask>", lstrip=True, rstrip=True),
        AddedToken("word", single_word=True, normalized=False), AddedToken("Ünï", normalized=True),
        AddedToken("<|a|>", normalized=False), AddedToken("<|a|><|a|>", normalized=False),
    ]
    gemma = [special("<start_of_turn>"), special("<end_of_turn>")]
    gemma += [AddedToken("\n" * n, special=False, normalized=False) for n in range(2, 6)]
    gemma += [AddedToken("▁" * n, special=False, normalized=False) for n in range(2, 6)]
    yield "gpt2", byte_level(None, [AddedToken("<|endoftext|>", special=True, normalized=True)])
    yield "llama3", byte_level(LLAMA3, llama3, before="<|begin_of_text|>", ignore_merges=True)
    yield "qwen2", byte_level(QWEN2, CHATML, nfc=True)
    yield "qwen35", byte_level(QWEN35, CHATML, nfc=True)
    yield "tekken", byte_level(TEKKEN, [special("<s>"), special("</s>"), special("[INST]"), special("[/INST]")], before="<s>")
    yield "o200k", byte_level(O200K, [special("<|start|>"), special("<|end|>")])
    yield "olmo2", byte_level(LLAMA3, CHATML)
    yield "neox", byte_level(None, neox, nfc=True)
    yield "smollm", byte_level(None, CHATML, digits=True)
    yield "odd", byte_level(QWEN2, odd, nfc=True)
    yield "llama2-legacy", sentencepiece("legacy", [])
    yield "llama2", sentencepiece(("first", False), [])
    yield "mistral", sentencepiece(("always", True), [special("[INST]"), special("[/INST]")])
    yield "gemma", sentencepiece("gemma", gemma)


def added_texts(tokenizer):
    return [token["content"] for token in json.loads(tokenizer.to_str())["added_tokens"]]


def ids_digest(rows):
    """SHA-256 of all ids, each row after its length, as little-endian u32."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(struct.pack(f"<{len(row) + 1}I", len(row), *row))
    return digest.hexdigest()


def encode(tokenizer, rows):
    return [tokenizer.encode(row.decode("utf-8", errors="replace")).ids for row in rows]


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        value = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
        yield value ^ value >> 31


def drawn(pieces, size):
    numbers, rows, total = split_mix(1), [], 0
    while total < size:
        row = b"".join(pieces[next(numbers) % len(pieces)] for _ in range(1 + next(numbers) % 40))
        rows.append(row)
        total += len(row)
    return rows


def character_classes():
    names = {r"\p{L}": 1, r"\p{N}": 2, r"\s": 4, r"\p{M}": 8, UPPER: 16, LOWER: 32, r"[\r\n]": 64}
    classes = [0] * 0x110000
    digits = pre_tokenizers.Digits(individual_digits=True)
    word = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    word.add_tokens([AddedToken("<w>", single_word=True, normalized=False)])
    for pattern, bit in names.items():
        remove = pre_tokenizers.Split(Regex(pattern), "removed")
        for start in range(0, 0x110000, 4096):
            characters = [c for c in range(start, start + 4096) if not 0xD800 <= c <= 0xDFFF]
            kept = set("".join(piece for piece, _ in remove.pre_tokenize_str("".join(map(chr, characters)))))
            for c in characters:
                if chr(c) not in kept:
                    classes[c] |= bit
    for c in range(0x110000):
        if not 0xD800 <= c <= 0xDFFF:
            classes[c] |= 128 * (len(digits.pre_tokenize_str(f"a{chr(c)}a")) == 3)
            classes[c] |= 256 * (1 not in word.encode(f"{chr(c)}<w>").ids)
    runs, start = b"", 0
    for c in range(1, 0x110001):
        if c == 0x110000 or classes[c] != classes[start]:
            runs += struct.pack("<IH", c - start, classes[start])
            start = c
    return runs


def cut(file):
    """The text of a file in the parts in which variants differ."""
    model = file["model"]
    others = [f',"{key}":{compact(value)}' for key, value in file.items() if key not in ("version", "model")]
    inner = [f',"{key}":{compact(value)}' for key, value in model.items() if key != "type"]
    return ['{"version":"1.0"', *others, ',"model":{"type":' + compact(model["type"]), *inner, "}}"]


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_variants(path):
    # It imports this file.
    import hostile
    import variants

    parts, rows = {}, []
    for name, file in variants.accepted():
        tokenizer = Tokenizer.from_str(compact(file))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        chosen = hostile.small(len(rows), added_texts(tokenizer))
        ids = encode(tokenizer, chosen)
        rows.append({
            "name": name, "file": [parts.setdefault(part, len(parts)) for part in cut(file)],
            "texts": [text.hex() for text in chosen], "ids": ids,
            "decoded": [tokenizer.decode(row, skip_special_tokens=False) for row in ids],
        })
    refused = [{"name": name, "file": [parts.setdefault(part, len(parts)) for part in cut(file)], "words": words}
               for name, file, words in variants.refused()]
    golden = {"parts": list(parts), "accepted": rows, "refused": refused}
    path.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")


def main():
    here = pathlib.Path(__file__).resolve().parents[3]
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "Tests/Golden/tokenizers"
    output.mkdir(parents=True, exist_ok=True)
    (output / "classes.bin").write_bytes(character_classes())
    write_variants(output / "variants.json")
    rng = random.Random(3)
    pieces = [texts.piece(rng, []) for _ in range(500)]
    expected = {"pieces": [piece.hex() for piece in pieces], "families": {}}
    for name, tokenizer in families():
        tokenizer.save(str(output / f"{name}.json"), pretty=False)
        added = added_texts(tokenizer)
        short = texts.corpus(7, 1_200, added)
        rows = encode(tokenizer, short)
        expected["families"][name] = {
            "texts": [row.hex() for row in short], "ids": rows,
            "decoded": [tokenizer.decode(row, skip_special_tokens=False) for row in rows],
            "long": ids_digest(encode(tokenizer, drawn(pieces + [t.encode() for t in added], 200_000))),
        }
    (output / "expected.json").write_text(json.dumps(expected, ensure_ascii=True, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
