#!/usr/bin/env python3
"""The study's data: right answers, problems that are disjoint, the same bytes from the same arguments."""
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import unittest

import report
import tasks

HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ["facts", "train", "validation", "test"]


def make(task, *arguments):
    """The lines of the four files, and all bytes."""
    with tempfile.TemporaryDirectory() as where:
        subprocess.run([sys.executable, f"{HERE}/tasks.py", task, where, "--validation", "50", "--test", "60", "--facts", "80", "--forms", "7",
                        *map(str, arguments)], check=True)
        lines = {name: [json.loads(line) for line in open(f"{where}/{name}.jsonl")] for name in FILES}
        everything = [open(os.path.join(directory, name), "rb").read()
                      for directory, _, names in sorted(os.walk(where)) for name in sorted(names)]
        return lines, everything


class Tasks(unittest.TestCase):
    def test_answers_of_chains(self):
        lines, _ = make("chains", "--train", 100)
        for line in lines["train"] + lines["facts"]:
            parts = re.fullmatch(r"(\d\d)((?:[-+*]\d\d)+)=", line["prompt"])
            value, results = int(parts[1]), []
            for sign, operand in re.findall(r"([-+*])(\d\d)", parts[2]):
                # By Python's own arithmetic, not by the table of operations.
                value = int(eval(f"({value}{sign}int('{operand}'))")) % 100
                results.append(f"{value:02d}")
            self.assertEqual(line["completion"], ";".join(results) + "####" + results[-1])

    def test_answers_of_rewritings(self):
        following = dict(zip("abcdefgh", "bcdefgha"))
        lines, _ = make("rewrite", "--train", 100)
        for line in lines["train"] + lines["facts"]:
            word, rules = re.fullmatch(r"([a-h]{5}):([u-z]+)=", line["prompt"]).groups()
            words = []
            for rule in rules:
                letters = list(word)
                if rule == "x":
                    letters.reverse()
                elif rule == "y":
                    letters[0], letters[4] = letters[4], letters[0]
                elif rule == "z":
                    letters.append(letters.pop(0))
                elif rule == "u":
                    letters = [following[letter] for letter in letters]
                elif rule == "v":
                    letters.sort()
                elif rule == "w":
                    letters[1] = letters[0]
                word = "".join(letters)
                words.append(word)
            self.assertEqual(line["completion"], ";".join(words) + "####" + words[-1])

    def test_problems_are_disjoint_and_ids_unique(self):
        for task in tasks.TASKS:
            lines, _ = make(task, "--train", 300)
            self.assertEqual({name: len(rows) for name, rows in lines.items()}, {"facts": 87, "train": 300, "validation": 50, "test": 60})
            chains = [row["prompt"] for name in FILES for row in lines[name] if row["completion"].count(";") == 3]
            self.assertEqual(len(chains), len(set(chains)))
            for rows in lines.values():
                self.assertEqual(len({row["id"] for row in rows}), len(rows))

    def test_more_data_begins_with_less(self):
        for task in tasks.TASKS:
            less, more = make(task, "--train", 40)[0], make(task, "--train", 80)[0]
            self.assertEqual(more["train"][:40], less["train"])
            for name in "facts", "validation", "test":
                self.assertEqual(more[name], less[name])

    def test_the_same_arguments_write_the_same_bytes(self):
        self.assertEqual(make("chains", "--train", 20, "--seed", 3)[1], make("chains", "--train", 20, "--seed", 3)[1])
        self.assertNotEqual(make("chains", "--train", 20, "--seed", 3)[0]["test"], make("chains", "--train", 20, "--seed", 4)[0]["test"])

    def test_every_character_has_a_token(self):
        for name, task in tasks.TASKS.items():
            known = set(tasks.tokenizer(task().characters)[0]["model"]["vocab"])
            for rows in make(name, "--train", 50)[0].values():
                for row in rows:
                    self.assertLessEqual(set(row["prompt"] + row["completion"]), known)


class Report(unittest.TestCase):
    def test_paired_differences(self):
        a = [[True] * 60 + [False] * 40] * 3
        b = [[True] * 50 + [False] * 50] * 3
        mean, low, high = report.paired(a, b)
        self.assertAlmostEqual(mean, 10)
        self.assertTrue(3 < low < 10 < high < 17)
        self.assertEqual(report.paired(a, a), (0, 0, 0))

    def test_rank_correlation(self):
        self.assertAlmostEqual(report.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]), 1)
        self.assertAlmostEqual(report.rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]), -1)
        # scipy.stats.spearmanr([1, 2, 2, 3], [1, 3, 2, 4])
        self.assertAlmostEqual(report.rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]), 0.9486832980505138)

    def test_the_report_of_made_up_outcomes(self):
        def outcome(arm, seed, share):
            right = [index % 100 < share for index in range(200)]
            return {"arm": arm, "seed": seed, "validation": share / 100, "accuracy": statistics.mean(right), "right": right,
                    **dict.fromkeys(["nll", "brier", "ece", "calibrated_nll", "calibrated_ece", "entropy", "pass_at_8"], 0.5),
                    "tokens_seen": 1000, "flops": 1e9, "seconds": 1, "peak_memory": 1 << 24, "gradient_norm": 2.0}
        models = [{"seed": seed, "m0_accuracy": 0.1, "train_nll": 0.001, "train_p": 0.999, "accuracy": 0.5, "right": [i % 2 == 0 for i in range(200)],
                   "control_right": [True] * 200, "raw_bytes": 10, "packed_bytes": 4} for seed in range(3)]
        outcomes = [outcome(arm, seed, share) for seed in range(3) for arm, share in [("sft", 50), ("wmss", 90)]]
        with tempfile.TemporaryDirectory() as where:
            text = report.write_report(where, "x", models, outcomes, [], ["sft", "wmss"])
            self.assertIn("wmss minus sft", text)
            self.assertIn("points: effect", text)
            self.assertTrue(open(f"{where}/x.svg").read().startswith("<svg"))


if __name__ == "__main__":
    unittest.main()
