"""Small tokenizers that differ from a known kind in one thing each, and files that ckpt refuses, with the words in which
it names the reason."""

import copy
import json

from tokenizers import AddedToken, Tokenizer

import make


def small(tokenizer):
    """The file of a tokenizer as a dictionary, with few tokens."""
    return json.loads(tokenizer.to_str())


def added(file, text, id=None, **flags):
    """Adds a token the way the library's files hold it; by default with the next free id."""
    ids = list(file["model"]["vocab"].values()) + [token["id"] for token in file["added_tokens"]]
    token = dict(id=id, content=text, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    token.update(flags)
    if id is None:
        token["id"] = file["model"]["vocab"].get(text, max(ids) + 1)
    file["added_tokens"].append(token)


def bases():
    gpt2 = small(make.byte_level(None, [make.special("<|end|>")], size=320))
    qwen = small(make.byte_level(make.QWEN2, [make.special("<|end|>")], size=320, nfc=True))
    llama = small(make.sentencepiece(("first", False), [], size=360))
    legacy = small(make.sentencepiece("legacy", [], size=360))
    gemma = small(make.sentencepiece("gemma", [], size=360))
    return gpt2, qwen, llama, legacy, gemma


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def accepted():
    """Pairs of a name and a file."""
    gpt2, qwen, llama, legacy, gemma = bases()

    def variant(base):
        return copy.deepcopy(base)

    file = variant(gpt2)
    file["pre_tokenizer"]["add_prefix_space"] = True
    yield "space first", file

    file = variant(qwen)
    file["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    yield "space first in each word", file

    for scheme in ("always", "first", "never"):
        for split in (True, False):
            file = variant(llama)
            file["pre_tokenizer"] = METASPACE | {"prepend_scheme": scheme, "split": split}
            for flags in ({}, {"lstrip": True}, {"rstrip": True}, {"normalized": True}):
                added(file, "<" + "".join(flags) + ">", **flags)
            yield f"metaspace {scheme} {'cut' if split else 'whole'}", file

    file = variant(llama)
    file["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    yield "metaspace of old files", file

    file = variant(llama)
    file["pre_tokenizer"] = METASPACE | {"replacement": "_"}
    file["decoder"] = METASPACE | {"replacement": "_"}
    yield "metaspace of another character", file

    for scheme in ("always", "never"):
        file = variant(llama)
        file["decoder"] = METASPACE | {"prepend_scheme": scheme}
        yield f"metaspace decoder {scheme}", file

    file = variant(legacy)
    file["normalizer"]["normalizers"].append({"type": "NFC"})
    for normalized in (True, False):
        added(file, f"<{normalized} é>", normalized=normalized)
        added(file, f"<e\u0301 {normalized}>", normalized=normalized)
    yield "prepend, replace and NFC", file

    file = variant(legacy)
    file["pre_tokenizer"] = METASPACE | {"prepend_scheme": "first"}
    added(file, "▁", normalized=True)
    added(file, "é ", normalized=True)
    yield "prepend twice", file

    for name, base in (("bytes", qwen), ("characters", gemma)):
        file = variant(base)
        for number, flags in enumerate((
            {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True}, {"single_word": True},
            {"single_word": True, "lstrip": True, "normalized": True}, {"normalized": True, "rstrip": True},
            {"special": True, "normalized": True}, {"special": True, "single_word": True, "rstrip": True},
        )):
            added(file, f"[{number}]", **flags)
            added(file, f"w{number}", **flags)
        added(file, "e\u0301t", normalized=True)
        added(file, "É", normalized=True, single_word=True)
        added(file, "\u212b", normalized=True)
        yield f"added tokens with every flag, {name}", file

    file = variant(qwen)
    for text in ("aa", "aaa", "aab", "<a", "<a>", "<a><a>", "a>", "\u0301", "日本", "日", "'s", " the", "é"):
        added(file, text)
        added(file, text + "!", normalized=True)
    yield "added tokens inside of each other", file

    file = variant(gpt2)
    added(file, "he")
    added(file, "Ġ", normalized=True)
    added(file, "é")
    added(file, "\u0120x", special=True)
    yield "added tokens that are in the vocabulary", file

    file = variant(gpt2)
    last = max(file["model"]["vocab"].values())
    moved = [t for t, i in file["model"]["vocab"].items() if i == last][0]
    file["model"]["vocab"][moved] = last + 1000
    file["added_tokens"] = []
    yield "gaps among the ids", file

    file = variant(llama)
    for byte in (0x0A, 0xC3, 0xA9, 0xF0):
        name = f"<0x{byte:02X}>"
        id = file["model"]["vocab"].pop(name)
        file["model"]["vocab"][f"free{byte}"] = id
    for fuse in (True, False):
        other = variant(file)
        other["model"]["fuse_unk"] = fuse
        yield f"bytes missing, unknown ones {'fused' if fuse else 'apart'}", other

    for fuse in (True, False):
        file = variant(llama)
        file["model"].update(byte_fallback=False, fuse_unk=fuse)
        yield f"unknown ones {'fused' if fuse else 'apart'}", file

    file = variant(llama)
    file["model"].update(byte_fallback=False, unk_token=None)
    yield "no unknown token", file

    file = variant(gpt2)
    for letter in "aé":
        letter = "a" if letter == "a" else "Ã"
        id = file["model"]["vocab"].pop(letter)
        file["model"]["vocab"][f"{letter}free"] = id
    file["model"]["merges"] = [m for m in file["model"]["merges"] if not set("aÃ") & set("".join(m))]
    yield "byte-level without some bytes", file
    for fuse in (True, False):
        other = variant(file)
        other["model"].update(unk_token="b", fuse_unk=fuse)
        yield f"byte-level, unknown ones {'fused' if fuse else 'apart'}", other

    file = variant(gpt2)
    file["model"]["merges"] = [" ".join(m) for m in file["model"]["merges"]]
    yield "merges as lines", file
    file = variant(file)
    file["model"]["merges"].insert(0, "#version: 0.2")
    yield "merges as lines with a version", file

    file = variant(gpt2)
    file["model"]["merges"] += file["model"]["merges"][:10]
    yield "merges twice", file

    file = variant(qwen)
    file["model"]["ignore_merges"] = True
    added(file, "ing")
    yield "ignored merges", file

    file = variant(llama)
    file["model"]["ignore_merges"] = True
    yield "ignored merges of characters", file

    file = variant(gpt2)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "unk_token", "fuse_unk", "byte_fallback",
                "ignore_merges"):
        file["model"].pop(key, None)
    yield "a model of the required members only", file
    file = variant(gpt2)
    file["model"].update(dict.fromkeys(("dropout", "continuing_subword_prefix", "end_of_word_suffix", "unk_token", "fuse_unk",
                                        "byte_fallback", "ignore_merges")))
    yield "a model of nulls", file
    file = variant(gpt2)
    file["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    yield "empty affixes", file
    file = variant(gpt2)
    file["model"]["byte_fallback"] = True
    yield "byte-level with fallback", file
    file = variant(gpt2)
    file["model"]["unk_token"] = "<|end|>"
    yield "byte-level, an unknown token of another table", file

    file = variant(gpt2)
    file["decoder"] = None
    yield "byte-level without a decoder", file
    file = variant(llama)
    file["decoder"] = None
    yield "no decoder", file
    file = variant(gpt2)
    file["decoder"] = llama["decoder"]
    yield "byte-level with another decoder", file
    file = variant(llama)
    file["decoder"] = gpt2["decoder"]
    yield "a decoder of bytes", file
    file = variant(llama)
    file["decoder"]["decoders"] = file["decoder"]["decoders"][:2]
    yield "decoder without fuse", file
    file = variant(llama)
    file["decoder"]["decoders"][3] = {"type": "Strip", "content": " ", "start": 2, "stop": 0}
    file["decoder"]["decoders"].pop(2)
    yield "a strip of each token", file

    file = variant(llama)
    file["pre_tokenizer"] = None
    yield "no pre-tokenizer", file
    file = variant(gpt2)
    file["normalizer"] = {"type": "Replace", "pattern": {"String": "ab"}, "content": ""}
    added(file, "cabd", normalized=True)
    yield "replaced by nothing", file
    file = variant(gpt2)
    file["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "aa"}, "content": "a"}, {"type": "NFC"},
        {"type": "Replace", "pattern": {"String": "é"}, "content": "e\u0301"}]}
    added(file, "é", normalized=True)
    yield "replaced twice", file
    file = variant(gpt2)
    file["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": False}, file["pre_tokenizer"]]}
    yield "digits together", file
    file = variant(gpt2)
    file["post_processor"] = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "X", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "X", "type_id": 1}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"X": {"id": "X", "ids": [5, 7], "tokens": ["a", "b"]}}}
    yield "a template on both sides", file
    file = variant(gpt2)
    file["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    file["padding"] = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                       "pad_type_id": 0, "pad_token": "x"}
    yield "truncation and padding", file


def refused():
    """Triples of a name, a file and a part of the error."""
    gpt2, qwen, llama, legacy, gemma = bases()

    def changed(base, path, value):
        file = copy.deepcopy(base)
        place = file
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return file

    model, steps = ["model"], ["pre_tokenizer", "pretokenizers"]
    for key, value, words in (
        ("end_of_word_suffix", "</w>", "end_of_word_suffix"), ("continuing_subword_prefix", "##", "continuing_subword_prefix"),
        ("dropout", 0.1, "dropout"),
    ):
        yield key, changed(gpt2, model + [key], value), words
    for kind in ("WordPiece", "Unigram", "WordLevel"):
        yield kind, changed(gpt2, model + ["type"], kind), f"a model of type {kind}"
    for kind in ("NFKC", "NFD", "Lowercase", "BertNormalizer", "Strip", "StripAccents", "Nmt", "Precompiled"):
        yield kind, changed(gpt2, ["normalizer"], {"type": kind}), f"a normalizer of type {kind}"
    yield "Replace", changed(gpt2, ["normalizer"], {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}), '" {2,}"'
    for kind in ("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "UnicodeScripts", "CharDelimiterSplit"):
        yield f"{kind} pieces", changed(gpt2, ["pre_tokenizer"], {"type": kind}), f"a pre-tokenizer of type {kind}"
    for behavior in ("Removed", "MergedWithNext", "MergedWithPrevious", "Contiguous"):
        yield behavior, changed(qwen, steps + [0, "behavior"], behavior), behavior
    yield "invert", changed(qwen, steps + [0, "invert"], True), "an inverted Split"
    yield "a pattern", changed(qwen, steps + [0, "pattern"], {"Regex": make.QWEN2 + "|x"}), "the Split pattern"
    for kind in ("BertProcessing", "RobertaProcessing"):
        yield kind, changed(gpt2, ["post_processor"], {"type": kind}), f"a post-processor of type {kind}"
    for kind in ("WordPiece", "BPEDecoder", "CTC"):
        yield f"{kind} decoding", changed(gpt2, ["decoder"], {"type": kind}), f"a decoder of type {kind}"
