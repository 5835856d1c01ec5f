#!/usr/bin/env python3
"""Data of the study: two tasks of several steps, and what a model must know to take a single one.

    tasks.py TASK DIRECTORY --train N [--steps 4] [--seed S] [--facts N] [--forms N] [--validation 2000] [--test 4000]

TASK is `chains` (arithmetic modulo 100, one operation after the other) or `rewrite` (a word rewritten rule by rule). Writes
facts.jsonl, train.jsonl, validation.jsonl and test.jsonl, a line {"id", "prompt", "completion"} each, and model/ with a
tokenizer.json that has a token to each character. Problems of the four files are disjoint. The first N of a larger --train are
those of a smaller one: more data of the same kind. The same arguments write the same bytes. Needs Python alone.

    chains     07*13+58-21*40=   91;49;28;20####20
    rewrite    gfhdb:uwyv=       hgaec;hhaec;chaeh;acehh####acehh

A completion has the result of each step, then #### and the answer. facts.jsonl has single steps in the same form, and --forms
samples of all steps, so that a model knows what a completion looks like.
"""
import argparse
import json
import os
import random

OPERATIONS = {"+": lambda a, b: (a + b) % 100, "-": lambda a, b: (a - b) % 100, "*": lambda a, b: (a * b) % 100}


class Chains:
    """a op b op c ...: each operation applied to what came before, modulo 100."""

    characters = "0123456789+-*=;"

    def problem(self, generator, steps):
        start = generator.randrange(100)
        return start, [(generator.choice("+-*"), generator.randrange(100)) for _ in range(steps)]

    def sample(self, problem):
        value, steps = problem
        prompt = f"{value:02d}" + "".join(f"{operation}{operand:02d}" for operation, operand in steps) + "="
        values = []
        for operation, operand in steps:
            value = OPERATIONS[operation](value, operand)
            values.append(f"{value:02d}")
        return prompt, ";".join(values) + "####" + values[-1]


class Rewrite:
    """A word of five letters, and rules that each change it: x reverses it, y swaps its ends, z shifts it to the left, u replaces
    every letter by the next one of the alphabet a to h, v sorts it, w doubles its first letter over the second."""

    letters = "abcdefgh"
    characters = letters + "uvwxyz:=;"

    rules = {
        "x": lambda word: word[::-1],
        "y": lambda word: word[-1] + word[1:-1] + word[0],
        "z": lambda word: word[1:] + word[0],
        "u": lambda word: "".join("bcdefgha"["abcdefgh".index(x)] for x in word),
        "v": lambda word: "".join(sorted(word)),
        "w": lambda word: word[0] + word[0] + word[2:],
    }

    def problem(self, generator, steps):
        return "".join(generator.choice(self.letters) for _ in range(5)), [generator.choice("uvwxyz") for _ in range(steps)]

    def sample(self, problem):
        word, rules = problem
        prompt = f"{word}:{''.join(rules)}="
        words = []
        for rule in rules:
            word = self.rules[rule](word)
            words.append(word)
        return prompt, ";".join(words) + "####" + words[-1]


TASKS = {"chains": Chains, "rewrite": Rewrite}


def distinct(task, generator, count, steps, seen):
    """`count` problems that are not among `seen`, which they then are."""
    problems = []
    while len(problems) < count:
        problem = task.problem(generator, steps)
        key = repr(problem)
        if key not in seen:
            seen.add(key)
            problems.append(problem)
    return problems


def write(path, task, problems, name):
    with open(path, "w") as file:
        for index, problem in enumerate(problems):
            prompt, completion = task.sample(problem)
            file.write(json.dumps({"id": f"{name}-{index}", "prompt": prompt, "completion": completion}) + "\n")


def tokenizer(characters):
    """A token to each character, one for ####, and the end of a text."""
    tokens = ["<end>", "####", "#", *characters]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    rest = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": level, "post_processor": None,
        "decoder": level,
        "added_tokens": [{"id": 0, "content": "<end>", "special": True, **rest}, {"id": 1, "content": "####", "special": False, **rest}],
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "vocab": {token: index for index, token in enumerate(tokens)}, "merges": []},
    }, len(tokens)


def config(vocabulary, hidden, layers, heads, inner):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": vocabulary, "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": heads,
        "head_dim": hidden // heads, "hidden_act": "silu", "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "eos_token_id": 0, "initializer_range": 0.05,
        "torch_dtype": "bfloat16",
    }


# hidden, layers, heads, inner
SIZES = {"0.3m": (96, 3, 4, 256), "0.8m": (128, 4, 4, 384), "3m": (256, 4, 8, 688)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("directory")
    parser.add_argument("--train", type=int, required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--facts", type=int, default=20000)
    parser.add_argument("--forms", type=int, default=200)
    parser.add_argument("--validation", type=int, default=2000)
    parser.add_argument("--test", type=int, default=4000)
    parser.add_argument("--size", choices=SIZES, default="0.3m")
    options = parser.parse_args()
    task = TASKS[options.task]()
    os.makedirs(f"{options.directory}/model", exist_ok=True)
    seen = set()

    def generator(name):
        return random.Random(f"{options.task} {options.steps} {options.seed} {name}")

    # What must stay the same when there is more to train on comes first.
    for name, count in ("validation", options.validation), ("test", options.test):
        write(f"{options.directory}/{name}.jsonl", task, distinct(task, generator(name), count, options.steps, seen), name)
    forms = distinct(task, generator("forms"), options.forms, options.steps, seen)
    facts = generator("facts")
    single = [task.problem(facts, 1) for _ in range(options.facts)]
    mixed = single + forms
    facts.shuffle(mixed)
    write(f"{options.directory}/facts.jsonl", task, mixed, "fact")
    write(f"{options.directory}/train.jsonl", task, distinct(task, generator("train"), options.train, options.steps, seen), "train")
    text, vocabulary = tokenizer(task.characters)
    with open(f"{options.directory}/model/tokenizer.json", "w") as file:
        json.dump(text, file, indent=1)
    with open(f"{options.directory}/model/config.json", "w") as file:
        json.dump(config(vocabulary, *SIZES[options.size]), file, indent=1)


if __name__ == "__main__":
    main()
