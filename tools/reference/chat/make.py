"""Writes Tests/Golden/chat/expected.json: what transformers makes of conversations by chat templates.

    python make.py TEMPLATES [OUTPUT]

Needs transformers and jinja2 (the committed file was made with 5.23.0 and 3.1.6). Downloads nothing. TEMPLATES is a
directory of chat templates as models ship them, which are not ours to keep: NAME.jinja or NAME.VARIANT.jinja, for the names
in `KINDS`; the one beside this file is our own. The tokenizers are those of tools/reference/tokenizers. Two runs write the same bytes.

expected.json holds the conversations, and for templates that write all of them alike the SHA-256 of each (without a line feed
at the end), the tokenizer, its special tokens, and for each conversation the text, the ids and the ranges of supervised
tokens, or the error. Supervised is what follows the header of an assistant's turn up to the token that ends it, as `KINDS`
gives both: looked for in the text, and laid over the ids by the library's own offsets.
"""

import hashlib
import json
import pathlib
import sys

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerFast

GEMMA = ("gemma", "<bos>", "<eos>", "<start_of_turn>model\n", "<end_of_turn>")
CHATML = ("qwen2", None, "<|im_end|>", "<|im_start|>assistant\n", "<|im_end|>")
LLAMA3 = ("llama3", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>")

# Tokenizer, beginning and end of sequence; the header of an assistant's turn, and what ends it.
KINDS = {
    "chatml": CHATML, "qwen2": CHATML, "qwen2-5": CHATML, "smollm2": ("smollm",) + CHATML[1:], "qwen3": CHATML,
    "qwen3-instruct-2507": CHATML, "llama3": LLAMA3, "llama3-1": LLAMA3, "gemma": GEMMA, "gemma3": GEMMA,
    "mistral-v0.1": ("llama2", "<s>", "</s>", "[/INST]", "</s>"), "mistral-v0.2": ("mistral", "<s>", "</s>", "[/INST]", "</s>"),
    "mistral-v1": ("llama2-legacy", "<s>", "</s>", "[/INST]", "</s>"), "mistral-v3": ("mistral", "<s>", "</s>", "[/INST]", "</s>"),
    "mistral-nemo": ("tekken", "<s>", "</s>", "[/INST]", "</s>"), "llama2": ("llama2-legacy", "<s>", "</s>", "[/INST]", "</s>"),
    "tulu": ("llama3", "<|begin_of_text|>", "<|end_of_text|>", "<|assistant|>\n", "<|end_of_text|>"),
    "olmo2": ("olmo2", "<|endoftext|>", "<|endoftext|>", "<|assistant|>\n", "<|endoftext|>"),
    "zephyr": ("llama2", "<s>", "</s>", "<|assistant|>\n", "</s>"),
}


def talk(*turns):
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[1:]} for turn in turns]


CONVERSATIONS = {
    "plain": talk("uWhat is 2 + 2?", "a2 + 2 = 4."),
    "system": talk("sYou count sheep.", "uHow many?", "aTwelve, and a lamb."),
    "turns": talk("sBe brief.", "uOne?", "a1", "uTwo and three?", "a2, 3", "uThen?", "aFour: 4,\nfive: 5."),
    "unanswered": talk("uOne?", "aYes.", "uTwo?"),
    "spaces": talk("s \n Mind the gap.\t", "u  lead and trail \n\n", "a\n\n  indented\n\ttwice \n ", "u\u00a0nbsp\u2003", "a\x1cunit\x1f \x85"),
    "empty": talk("u", "a"),
    "empty system": talk("s", "uHi", "aHo"),
    "line feeds": talk("u\n\n\nabove", "a\nbelow\r\n", "u\n", "a\n\n\n"),
    "unicode": talk("uÜber 日本語 👩‍💻 e\u0301", "a\u0301 starts with a mark, ends with 한국어", "uğ\u0327\u0301", "a\u0338\u0327 ≯ 🇩🇪"),
    "marks": talk("uSay <|endoftext|> </s> <s> <eos> [INST] ▁ <unk>", "aNo ▁▁ marks here  \u2581", "u</think> <think>", "aNone."),
    "thoughts": talk("uHard?", "a<think>\nlet me see\n\n</think>\n\nNo.", "uAnd now?", "a<think>\n\nhm\n</think>\nYes.\n"),
    "steps": talk("uLook it up.", "a<think>where?</think>\n\nLooking.", "u<tool_response>\n5\n</tool_response>", "aMore.",
                  "u<tool_response>6</tool_response>", "a</think>five<think>x</think>\nSix.", "u<tool_response>open", "aStop."),
    "only tools": talk("u<tool_response>5</tool_response>", "a<think>5?</think>Five."),
    "code": talk("uWrite a loop over 1234567.", "a```\nfor i in range(1234567):\n    print(i)  # don't\n```"),
    "assistant first": talk("aHello!", "uHi.", "aSo?"),
    "two of the user": talk("uOne?", "uTwo?", "aThree."),
    "two of the assistant": talk("uOne?", "aTwo.", "aThree."),
    "system in the middle": talk("uOne?", "aTwo.", "sNew rules.", "aThree."),
    "system at the end": talk("uOne?", "aTwo.", "sDone."),
    "system twice": talk("sOne.", "sTwo.", "uThree?", "aFour."),
    "assistant alone": talk("aHello!"),
}


def spans(text, header, end):
    """Where the assistant speaks, and the index after it."""
    result, place = [], 0
    while (found := text.find(header, place)) >= 0:
        start = found + len(header)
        stop = text.find(end, start)
        if stop < 0:
            break
        place = stop + len(end)
        result.append((start, place))
    return result


def ranges(offsets, wanted):
    """The tokens that hold a character of one of the spans; one that holds none stands for the next."""
    said = [any(max(b, a + 1) > start and a < stop for start, stop in wanted) for a, b in offsets]
    result = []
    for index, flag in enumerate(said):
        if flag and result and result[-1][1] == index:
            result[-1][1] += 1
        elif flag:
            result.append([index, index + 1])
    return result


def case(tokenizer, template, messages, header, end):
    try:
        text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False)
    except TemplateError as error:
        return {"error": str(error)}
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = tokenizer.apply_chat_template(messages, chat_template=template, return_dict=False)
    assert ids == encoded["input_ids"]
    wanted = spans(text, header, end)
    assert len(wanted) == sum(message["role"] == "assistant" for message in messages), text
    return {"text": text, "ids": ids, "supervised": ranges(encoded["offset_mapping"], wanted)}


def main():
    here = pathlib.Path(__file__).resolve().parents[3]
    output = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here / "Tests/Golden/chat/expected.json"
    groups = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.jinja")) + sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
        name = path.stem
        while name and name not in KINDS:
            name = name.rpartition(".")[0]
        if not name:
            print(f"{path.name}: not compared")
            continue
        family, beginning, ending, header, end = KINDS[name]
        template = path.read_bytes().decode().removesuffix("\n")
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(here / f"Tests/Golden/tokenizers/{family}.json"), bos_token=beginning, eos_token=ending)
        cases = {key: case(tokenizer, template, messages, header, end) for key, messages in CONVERSATIONS.items()}
        group = {"name": name, "hashes": [], "tokenizer": family, "bos_token": beginning, "eos_token": ending, "cases": cases}
        group = groups.setdefault(json.dumps([family, beginning, ending, cases]), group)
        group["hashes"].append(hashlib.sha256(template.encode()).hexdigest())
    output.parent.mkdir(parents=True, exist_ok=True)
    golden = {"conversations": CONVERSATIONS, "templates": list(groups.values())}
    output.write_text(json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{sum(len(group['hashes']) for group in groups.values())} templates, {len(groups)} that differ")


if __name__ == "__main__":
    main()
