"""Writes format-spec/golden: stores made by ckpt, broken copies of them, and expected.json.

    make_golden_stores.py CKPT_BINARY OUTPUT_DIRECTORY SET

SET is `first` (all but those of the other sets), `deltas` (stores of differences), `probes` (stores of probes and entropy
records) or `retention` (metrics, policies, a pruned run and quarantined blocks). A set is added to what is in the output
directory; a store that is there already is never written again.

Needs numpy and what format-spec/reader/requirements.txt names. What is expected of files and tensors is computed from
the source checkpoints, which this script makes itself, and from Tests/Golden/formats/torch-cases.json (what torch.load
gave for the PyTorch files), never from what ckpt says. Ids, times and so the bytes of the stores differ from run to
run. The sources lie in /tmp/ckpt-golden while it runs, since a store keeps the paths that it was made from.
"""

import hashlib
import json
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager

import lmdb
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "format-spec/reader"))
import pages  # noqa: E402
import reader  # noqa: E402

WORK = pathlib.Path("/tmp/ckpt-golden")
FORMATS = ROOT / "Tests/Golden/formats"
TORCH = {case["file"]: case for case in json.loads((FORMATS / "torch-cases.json").read_text())["cases"]}
LARGEST = 300_000

BITS = {dtype.name: dtype.bits for dtype in reader.DTYPES.values()}
random = numpy.random.default_rng(20261123)


# --- Source checkpoints. Each has what is expected of it beside it: {"files": [...], "tensors": [...]}.


class Checkpoint:
    def __init__(self, directory):
        self.directory = WORK / directory
        self.directory.mkdir(parents=True)
        self.files, self.tensors = [], []

    def file(self, path, data):
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        self.files.append({"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()})

    def empty_directory(self, path):
        (self.directory / path).mkdir(parents=True)
        self.files.append({"path": path, "size": 0, "sha256": None})

    def tensor(self, file, name, dtype, shape, data):
        digest = hashlib.sha256(data).hexdigest()
        self.tensors.append({"file": file, "name": name, "dtype": dtype, "shape": list(shape), "sha256": digest})

    def safetensors(self, path, tensors):
        """`tensors`: name to (dtype, shape, bytes), written in this order."""
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for name, (dtype, shape, data) in tensors.items():
            assert len(data) * 8 == BITS[dtype] * numpy.prod(shape, dtype=object), name
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
            at += len(data)
            self.tensor(path, name, dtype, shape, data)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        self.file(path, struct.pack("<Q", len(text)) + text + b"".join(data for *_, data in tensors.values()))

    def torch(self, path, name):
        self.file(path, (FORMATS / f"torch/{name}.pt").read_bytes())
        for tensor in TORCH[f"torch/{name}.pt"]["tensors"]:
            self.tensor(path, tensor["name"], tensor["dtype"], tensor["shape"], bytes.fromhex(tensor["data"]))

    def expected(self, *, without=()):
        return {
            "files": sorted((f for f in self.files if f["path"] not in without), key=lambda f: f["path"].encode()),
            "tensors": sorted(
                (t for t in self.tensors if t["file"] not in without), key=lambda t: (t["file"].encode(), t["name"].encode())
            ),
        }


def bf16(values):
    return (numpy.asarray(values, "<f4").view("<u4") >> 16).astype("<u2").tobytes()


def weights(step):
    """Normal weights of a small model, which move a little with the step."""
    base = numpy.random.default_rng(7)
    moved = numpy.random.default_rng(step)
    matrix = base.normal(0, 0.02, (24, 64)) + moved.normal(0, 1e-4, (24, 64))
    return {
        "embed.weight": ("BF16", [24, 64], bf16(matrix)),
        "layers.0.weight": ("F32", [16, 16], (base.normal(0, 0.05, (16, 16)) + moved.normal(0, 1e-5, (16, 16))).astype("<f4").tobytes()),
        "layers.0.frozen": ("F16", [24, 16], base.normal(0, 1, (24, 16)).astype("<f2").tobytes()),
        "norm.weight": ("BF16", [64], bf16(numpy.ones(64))),
        "positions": ("I64", [40], numpy.arange(40, dtype="<i8").tobytes()),
        "step": ("I64", [], struct.pack("<q", step)),
    }


def training_checkpoint(step):
    checkpoint = Checkpoint(f"sft/checkpoint-{step}")
    checkpoint.safetensors("model.safetensors", weights(step))
    checkpoint.torch("optimizer.pt", "adamw")
    checkpoint.file("config.json", b'{"hidden_size": 64, "note": "caf\xc3\xa9"}\n')
    checkpoint.file("trainer_state.json", json.dumps({"global_step": step}).encode())
    checkpoint.file("tokenizer/merges.txt", b"")
    checkpoint.empty_directory("logs")
    return checkpoint


def every_type():
    """Every type of safetensors, each contiguous, with 0-d and empty tensors among them."""
    checkpoint = Checkpoint("types")
    tensors = {}
    for dtype, bits in BITS.items():
        if dtype == "C128":  # occurs in PyTorch files only
            continue
        shape = [6, 8]
        data = random.integers(0, 2 if dtype == "BOOL" else 256, 48 * bits // 8, dtype=numpy.uint8).tobytes()
        if dtype in ("F32", "F64", "F16"):
            data = random.normal(0, 1, 48).astype("<f" + str(bits // 8)).tobytes()
        tensors[f"of {dtype}"] = (dtype, shape, data)
    tensors["F6 rows that share bytes"] = ("F6_E2M3", [8, 5], random.bytes(30))
    tensors["F4 rows that share bytes"] = ("F4", [6, 5], random.bytes(15))
    tensors["scalar"] = ("F32", [], struct.pack("<f", 1.5))
    tensors["empty"] = ("F32", [0, 4], b"")
    tensors["empty too"] = ("BF16", [3, 0], b"")
    tensors["\u00e9 composed, e\u0301 not"] = ("U8", [3], b"\1\2\3")
    tensors["ones"] = ("U8", [1, 1, 1, 1], b"\7")
    checkpoint.safetensors("types.safetensors", tensors)
    return checkpoint


def sparse(size):
    """Zeros with a run of random bytes here and there, so that blocks differ and take little room."""
    data = numpy.zeros(size, dtype=numpy.uint8)
    for at in range(0, size, 60_000):
        data[at + 5 : at + 9] = random.integers(1, 256, len(data[at + 5 : at + 9]))
    return data.tobytes()


def cut_rows():
    """Tensors of more than one block, which take little room."""
    checkpoint = Checkpoint("cut")
    checkpoint.safetensors("wide.safetensors", {
        "cut rows": ("F32", [2, 100000], sparse(800000)),
        "cut rows of 2 bytes": ("BF16", [3, 200001], sparse(1200006)),
        "whole rows": ("F64", [70000, 3], sparse(1680000)),
        "one dimension": ("U8", [600000], sparse(600000)),
        "constant": ("F32", [300, 500], numpy.full(150000, -0.5, "<f4").tobytes()),
        "zeros": ("I32", [200000], bytes(800000)),
        "F6 units": ("F6_E3M2", [2, 400000], sparse(600000)),
        "F4 unit of two rows": ("F4", [2, 1200001], sparse(1200001)),
    })  # fmt: skip
    return checkpoint


def torch_files():
    checkpoint = Checkpoint("torch")
    checkpoint.torch("pytorch_model.bin", "views")
    for name in ("tied", "fused", "dtypes", "empty", "two-shapes", "partial", "scalars"):
        checkpoint.torch(f"model_{name}.pt", name)
    checkpoint.torch("optimizer/state.pt", "protocol-4")
    return checkpoint


def small():
    checkpoint = Checkpoint("small")
    checkpoint.safetensors("model.safetensors", {
        "w": ("BF16", [32, 64], bf16(random.normal(0, 0.02, (32, 64)))), "bias": ("F32", [16], numpy.arange(16, dtype="<f4").tobytes()),
    })  # fmt: skip
    checkpoint.torch("optimizer.pt", "adamw")
    checkpoint.file("config.json", b"{}\n")
    return checkpoint


def walk(values, dtype, shape):
    """`values` as stored."""
    if dtype == "BF16":
        return dtype, shape, bf16(values)
    if dtype == "BF16 in F32":
        return "F32", shape, (numpy.asarray(values, "<f4").view("<u4") & 0xFFFF0000).astype("<u4").tobytes()
    if dtype == "F16 in F32":
        return "F32", shape, numpy.asarray(values, "<f2").astype("<f4").tobytes()
    width = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "u1"}[dtype]
    return dtype, shape, numpy.asarray(values).astype(width).tobytes()


def training_run(steps):
    """Tensors of each step of a made-up training: every update is much like the one before it."""
    random = numpy.random.default_rng(2311)
    moving = {  # name: type, shape, size of a value, size of an update
        "embed.weight": ("BF16", [80, 64], 0.02, 1e-5), "attn.weight": ("F32", [24, 25], 0.05, 2e-8), "mlp.weight": ("F16", [40, 41], 0.5, 4e-4),
        "wide.weight": ("BF16 in F32", [32, 33], 0.02, 4e-5), "half.weight": ("F16 in F32", [20, 31], 0.1, 1e-4),
        "double.weight": ("F64", [18, 18], 1.0, 1e-15),
    }  # fmt: skip
    values = {name: random.normal(0, size, shape) for name, (_, shape, size, _) in moving.items()}
    updates = {name: random.normal(0, update, moving[name][1]) for name, (*_, update) in moving.items()}
    rows = random.normal(0, 0.02, (60, 64))
    counters, places = random.integers(1000, 90000, 600), numpy.cumsum(random.integers(1, 2000, 400))
    frozen, levels = random.normal(0, 1, (16, 64)), random.normal(0, 1, 40)
    for _ in range(steps):
        tensors = {name: walk(values[name], dtype, shape) for name, (dtype, shape, *_) in moving.items()}
        tensors["sparse.weight"] = walk(rows, "BF16", [60, 64])
        tensors["counters"] = walk(16 * counters, "I32", [600])
        tensors["places"] = walk(places, "I64", [400])
        tensors["frozen.weight"] = walk(frozen, "BF16", [16, 64])
        tensors["quantised.weight"] = walk(levels[random.integers(0, 12, (50, 41))], "F32", [50, 41])
        choice = random.integers(0, 5, 1500) + numpy.repeat([0, 10, 20, 30, 10], 300)
        tensors["grouped.weight"] = walk(levels[choice], "F64", [1500])
        tensors["mask"] = walk(random.integers(0, 2, 500), "U8", [500])
        yield tensors
        for name in moving:
            updates[name] = 0.8 * updates[name] + random.normal(0, 0.3 * moving[name][3], moving[name][1])
            values[name] = values[name] + updates[name]
        changed = random.integers(0, 60, 3)
        rows[changed] += random.normal(0, 4e-4, (3, 64))
        counters, places = counters + random.integers(0, 4, 600), places + random.integers(0, 3, 400)


def training_steps(steps):
    for step, tensors in enumerate(training_run(steps)):
        checkpoint = Checkpoint(f"deltas/checkpoint-{step}")
        checkpoint.safetensors("model.safetensors", tensors)
        checkpoint.file("trainer_state.json", json.dumps({"global_step": step}).encode())
        yield step, checkpoint


# --- Stores


def copy(store, target):
    """What a reader needs of a store, and nothing else."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "gen-1").mkdir(parents=True)
    shutil.copyfile(store / "current", target / "current")
    shutil.copyfile(store / "gen-1/data.mdb", target / "gen-1/data.mdb")


def compact(store):
    """Leaves out the free pages, which are more than half of the file after many small commits."""
    with lmdb.open(str(store / "gen-1"), max_dbs=32, map_size=1 << 30) as environment:
        (WORK / "compact").mkdir()
        environment.copy(str(WORK / "compact"), compact=True)
    (WORK / "compact/data.mdb").replace(store / "gen-1/data.mdb")
    (WORK / "compact").rmdir()


class Records:
    """The records of a store that is being edited, with right checksums."""

    def __init__(self, transaction, tables):
        self.transaction, self.tables = transaction, tables

    def get(self, kind, key):
        return bytes(self.transaction.get(key, db=self.tables[kind]))[:-8]

    def put(self, kind, key, value):
        record = value + struct.pack("<Q", reader.checksum(kind, key, value))
        self.transaction.put(key, record, db=self.tables[kind])

    def delete(self, kind, key):
        assert self.transaction.delete(key, db=self.tables[kind])

    def keys(self, kind):
        return [bytes(key) for key in self.transaction.cursor(self.tables[kind]).iternext(values=False)]

    def add_uses(self, kind, id, change):
        """Changes a count; what nobody uses any more goes, with the uses it had."""
        key = bytes([kind]) + id
        value = self.get(reader.COUNTS, key)
        uses = struct.unpack("<Q", value[:8])[0] + change
        if uses:
            return self.put(reader.COUNTS, key, struct.pack("<Q", uses) + value[8:])
        record = self.get(kind, id)
        self.delete(reader.COUNTS, key)
        self.delete(kind, id)
        if kind == reader.TENSORS:
            for block in reader.stored_tensor(record).blocks:
                self.add_uses(reader.BLOCKS, block, -1)
        if kind == reader.PARTS:
            for file in reader.part(record).files:
                for tensor in [storage.tensor for storage in file.storages] + [file.skeleton] * (file.skeleton is not None):
                    self.add_uses(reader.TENSORS, tensor, -1)


@contextmanager
def edited(store, target):
    """A copy of `store` at `target`, once the block has changed its records."""
    scratch = WORK / "edit"
    copy(store, scratch)
    with lmdb.open(str(scratch / "gen-1"), max_dbs=32, map_size=1 << 30) as environment:
        with environment.begin() as transaction:
            there = {bytes(key) for key in transaction.cursor().iternext(values=False)}
        tables = {kind: environment.open_db(name.encode(), create=False) for kind, name in enumerate(reader.TABLES, 1) if name.encode() in there}
        with environment.begin(write=True) as transaction:
            yield Records(transaction, tables)
    copy(scratch, target)


def main():
    binary, output = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve()
    output.mkdir(parents=True, exist_ok=True)
    described = output / "expected.json"
    before = json.loads(described.read_text()) if described.exists() else {"stores": {}, "broken": {}}
    WORK.mkdir()
    try:
        made = {"stores": {}, "broken": {}, "probes": {}, "retention": {}}
        target = WORK / "made"
        target.mkdir()
        {"first": make_first, "deltas": make_deltas, "probes": make_probes, "retention": make_retention}[sys.argv[3]](binary, target, made)
        verify(target, made)
        for kind, stores in made.items():
            for name, what in stores.items():
                if kind not in ("probes", "retention"):
                    shutil.copytree(target / name, output / name)  # fails when it is there
                before.setdefault(kind, {})[name] = what
        described.write_text(json.dumps(before, indent=1, ensure_ascii=True) + "\n")
    finally:
        shutil.rmtree(WORK)


def runner(binary, pack):
    """Runs ckpt on a store, and ingests with it."""
    def ckpt(store, *arguments):
        subprocess.run([binary, *arguments, "--store", store], check=True, stdout=subprocess.DEVNULL)

    def ingest(store, checkpoint, run, step, *options, pack=pack):
        ckpt(store, "ingest", checkpoint.directory, "--run", run, "--step", str(step), "--no-image", "--pack", pack, *options)

    return ckpt, ingest


def make_deltas(binary, output, expected):
    ckpt, ingest = runner(binary, "delta")
    store, refs = WORK / "store", {}
    ckpt(store, "init")
    for step, checkpoint in training_steps(7):
        ingest(store, checkpoint, "sft", step)
        refs[f"sft@{step}"] = checkpoint.expected()
    compact(store)
    copy(store, output / "v1-deltas")
    expected["stores"]["v1-deltas"] = refs

    # One tensor of that run, from which the broken ones are made.
    base, name, refs = WORK / "base", "embed.weight", {}
    ckpt(base, "init")
    for step, tensors in enumerate(training_run(6)):
        checkpoint = Checkpoint(f"small/checkpoint-{step}")
        checkpoint.safetensors("model.safetensors", {name: tensors[name]})
        ingest(base, checkpoint, "run", step)
        refs[f"run@{step}"] = checkpoint.expected()
    compact(base)
    with reader_of(base) as opened:
        tower, packed = [], {}
        for step in range(6):
            (file,) = opened.files(opened.find(f"run@{step}"))[0].values()
            (block,) = opened.read(reader.TENSORS, file.storages[0].tensor).blocks
            tower.append(block)
            packed[block] = opened.value(reader.BLOCKS, block)
    assert [packed[block][2] for block in tower] == list(range(6)), "not a tower of depths 0 to 5"
    assert [packed[block][3] for block in tower] == [0, 1, 2, 2, 2, 2], "not differences from two bases"

    def broken(store, harmed, words, found):
        """`harmed`: the steps whose blocks cannot be read."""
        says = [tower[step].hex() for step in harmed]
        says += [f"run@{step}): model.safetensors: tensor {name} cannot be read" for step in harmed]
        readable = {ref: what for step, (ref, what) in enumerate(refs.items()) if step not in harmed}
        expected["broken"][store] = {"exit": 2, "words": words, "reader": found + says, "readable": readable}

    def put_base(records, block, place, id):
        """Names another base, and moves the use."""
        value = records.get(reader.BLOCKS, block)
        at = 16 + 32 * place
        records.add_uses(reader.BLOCKS, value[at : at + 32], -1)
        records.add_uses(reader.BLOCKS, id, 1)
        records.put(reader.BLOCKS, block, value[:at] + id + value[at + 32 :])

    hexes = [block.hex() for block in tower]
    other = bytearray(packed[tower[0]])
    other[-1] ^= 1  # the last byte of the last plane, which is kept as it is
    with edited(base, output / "v1-deltas-other-base") as records:
        records.put(reader.BLOCKS, tower[0], bytes(other))
    cause = f"its base cannot be read: blocks {hexes[0]}: its hash is not its id"
    broken("v1-deltas-other-base", range(6), [*hexes, *refs], [f"blocks {block}: {cause}" for block in hexes[1:]])
    with edited(base, output / "v1-deltas-cycle") as records:
        put_base(records, tower[1], 0, tower[4])
    cause = f"blocks {hexes[1]}: is not deeper than its base {hexes[4]}"
    broken("v1-deltas-cycle", range(1, 6), [hexes[1], hexes[4], *list(refs)[1:]], [cause])
    with edited(base, output / "v1-deltas-second-base") as records:
        put_base(records, tower[3], 1, tower[0])
    cause = f"blocks {hexes[3]}: its second base {hexes[0]} is not the base of its first"
    broken("v1-deltas-second-base", range(3, 6), [hexes[3], "second base", *list(refs)[3:]], [cause])
    with edited(base, output / "v1-deltas-too-deep") as records:
        value = records.get(reader.SUPERBLOCK, b"store")
        records.put(reader.SUPERBLOCK, b"store", value[:52] + b"\3" + value[53:])  # depth_limit
    causes = [f"blocks {hexes[depth]}: depth {depth} is beyond the limit of 3" for depth in (4, 5)]
    broken("v1-deltas-too-deep", range(4, 6), [hexes[4], hexes[5], "limit"], causes)


# --- Probes and entropy records. Encoded here, from the document, and by ckpt, so that each reads what the other wrote.


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def optional(data):
    return b"\0" if data is None else b"\1" + data


def listed(items):
    return struct.pack("<I", len(items)) + b"".join(items)


def encoded_probe(probe):
    u32 = lambda number: struct.pack("<I", number)  # noqa: E731
    samples = [
        string(sample["id"]) + listed([u32(token) for token in sample["tokens"]])
        + listed([u32(start) + u32(end) for start, end in sample["supervised"]])
        + b"".join(optional(None if sample[key] is None else string(sample[key])) for key in ("prompt", "completion"))
        for sample in probe["samples"]
    ]  # fmt: skip
    pieces = sorted((int(token), bytes.fromhex(piece)) for token, piece in probe["pieces"].items())
    tokenizer = optional(probe["tokenizer"] and bytes.fromhex(probe["tokenizer"]))
    return b"ckptprb1" + tokenizer + listed(samples) + listed([u32(token) + u32(len(piece)) + piece for token, piece in pieces])


def raw_chunk(raw, element):
    """Codec 0."""
    return struct.pack("<BBBBIII", 0, element, 0, 0, len(raw), len(raw), 0) + raw


def put_probe(records, probe, created=1):
    encoding = encoded_probe(probe)
    id = hashlib.sha256(encoding).digest()
    chunks = [raw_chunk(encoding[at : at + reader.CHUNK], reader.U8) for at in range(0, len(encoding), reader.CHUNK)]
    for number, chunk in enumerate(chunks):
        records.put(reader.PROBE_CHUNKS, id + struct.pack(">I", number), chunk)
    samples = probe["samples"]
    tokens, supervised = sum(len(sample["tokens"]) for sample in samples), sum(supervised_tokens(sample) for sample in samples)
    sums = (len(encoding), len(samples), tokens, supervised, sum(map(len, chunks)), created)
    records.put(reader.PROBES, id, struct.pack("<QIQQQq", *sums))
    records.put(reader.PROBE_NAMES, probe["name"].encode(), id)
    return id


def supervised_tokens(sample):
    return sum(end - start for start, end in sample["supervised"])


def encoded_key(record):
    settings = listed([string(key) + string(record["settings"][key]) for key in sorted(record["settings"])])
    return b"ckptent1" + bytes.fromhex(record["snapshot"]) + bytes.fromhex(record["probe"]) + settings


def put_record(records, record, groups, created=1):
    """`groups`: for each chunk, its parts: row, first token, number of tokens."""
    names = [name for name in reader.COLUMNS if name in record["rows"][0]]
    key = encoded_key(record)
    id, size, tokens = hashlib.sha256(key).digest(), 0, 0
    for number, parts in enumerate(groups):
        raw = listed([struct.pack("<III", row["sample"], first, count) for row, first, count in parts])
        for name in names:
            for row, first, count in parts:
                values = row[name][first : first + count]
                raw += struct.pack(f"<{count}{'I' if name == 'top1' else 'f'}", *values)
        tokens += sum(count for *_, count in parts)
        chunk = raw_chunk(raw, 12)
        size += len(chunk)
        records.put(reader.OUTPUT_CHUNKS, id + struct.pack(">I", number), chunk)
    done = bytearray((record["sample_count"] + 7) // 8)
    for row in record["rows"]:
        done[row["sample"] // 8] |= 1 << row["sample"] % 8
    provenance = listed([string(key) + string(record["provenance"][key]) for key in sorted(record["provenance"])])
    mask = sum(1 << reader.COLUMNS.index(name) for name in names)
    rest = struct.pack("<IqQQII", mask, created, tokens, size, len(groups), record["sample_count"]) + done
    records.put(reader.ENTROPY_RECORDS, id, key + provenance + rest)
    return id


def figures(sample, names, count):
    row = {"sample": sample}
    for name in names:
        values = random.integers(0, 32000, count) if name == "top1" else random.gamma(1, 1, count).astype("<f4")
        row[name] = values.tolist()
    return row


def probe_sample(id, tokens, supervised, prompt=None, completion=None):
    return {"id": id, "tokens": tokens, "supervised": supervised, "prompt": prompt, "completion": completion}


def make_probes(binary, output, expected):
    ckpt, ingest = runner(binary, "dense")
    base = WORK / "base"
    ckpt(base, "init")
    refs = {}
    for step in (1, 2):
        checkpoint = Checkpoint(f"steps/checkpoint-{step}")
        checkpoint.safetensors("model.safetensors", {"w": ("F32", [4, 4], random.normal(0, 1, 16).astype("<f4").tobytes())})
        ingest(base, checkpoint, "run", step)
        refs[f"run@{step}"] = checkpoint.expected()
    with reader_of(base) as opened:
        one, two = (opened.find(f"run@{step}") for step in (1, 2))

    # By ckpt: a probe of tokens, and an entropy record of two columns.
    lines = [([int(token) for token in random.integers(0, 32000, random.integers(2, 30))], f"q{index}") for index in range(12)]
    samples = [probe_sample(id, tokens, [[len(tokens) // 2, len(tokens)]]) for tokens, id in lines]
    rows = [json.dumps({"id": s["id"], "input_ids": s["tokens"], "completion_start": s["supervised"][0][0]}) for s in samples]
    (WORK / "probe.jsonl").write_text("\n".join(rows))
    ckpt(base, "probe", "add", "tokens", WORK / "probe.jsonl")
    tokens = {"name": "tokens", "tokenizer": None, "samples": samples, "pieces": {}}
    tokens["id"] = hashlib.sha256(encoded_probe(tokens)).hexdigest()
    head = {"provenance": {"program": "golden", "device": "none"}, "settings": {"precision": "fp32"}}
    by_ckpt = {"snapshot": one.hex(), "probe": tokens["id"], **head, "sample_count": len(samples)}
    by_ckpt["rows"] = [figures(i, ["entropy", "top1"], supervised_tokens(sample)) for i, sample in enumerate(samples)]
    by_ckpt["id"] = hashlib.sha256(encoded_key(by_ckpt)).hexdigest()
    imported = [json.dumps(head)] + [
        json.dumps({"id": samples[row["sample"]]["id"], "entropy": row["entropy"], "top1": row["top1"]}) for row in by_ckpt["rows"]
    ]
    (WORK / "outputs.jsonl").write_text("\n".join(imported))
    ckpt(base, "entropy", "run@1", "--probe", "tokens", "--import", WORK / "outputs.jsonl")
    compact(base)

    # With py-lmdb: a probe with everything, under two names, and a record of every column that is not finished.
    text = {
        "name": "text", "tokenizer": hashlib.sha256(b"tokenizer").hexdigest(),
        "samples": [
            probe_sample("a", [1, 15, 16, 2], [[2, 4]], "2 + 2", " = 4"),
            probe_sample("caf\u00e9", [1, 300, 15, 16, 31999, 2], [[1, 2], [4, 6]], None, "\U0001f600"),
            probe_sample("7", [5] * 9, [[1, 9]], "", ""),
        ],
        "pieces": {"1": b"<s>".hex(), "15": b"2".hex(), "31999": b"\xc3".hex()},
    }  # fmt: skip
    text["id"] = hashlib.sha256(encoded_probe(text)).hexdigest()
    again = text | {"name": "text again"}
    record = {
        "snapshot": two.hex(), "probe": text["id"], "settings": {"max_length": "6", "weak": one.hex(), "lambda": "0.42"},
        "provenance": {}, "sample_count": 3, "rows": [figures(1, reader.COLUMNS, 2), figures(2, reader.COLUMNS, 5)],
    }  # fmt: skip
    record["id"] = hashlib.sha256(encoded_key(record)).hexdigest()
    first, second = record["rows"]
    # The second sample of the record is cut in two by the end of the first chunk.
    groups = [[(second, 0, 3)], [(second, 3, 2), (first, 0, 2)]]
    gone = hashlib.sha256(b"gone").digest()

    def add(records):
        put_probe(records, text)
        put_probe(records, again)
        put_record(records, record, groups)
        # What a killed removal leaves behind.
        records.put(reader.REMOVALS, bytes([reader.OUTPUT_CHUNKS]) + gone, b"")
        records.put(reader.OUTPUT_CHUNKS, gone + struct.pack(">I", 0), raw_chunk(struct.pack("<IIII", 1, 0, 0, 0), 12))

    with edited(base, output / "v1-probes") as records:
        add(records)
    expected["stores"]["v1-probes"] = refs
    expected["probes"]["v1-probes"] = {
        "probes": sorted([tokens, text, again], key=lambda probe: probe["name"]),
        "entropies": sorted([by_ckpt, record], key=lambda record: record["id"]),
    }

    def broken(name, words, found):
        expected["broken"][name] = {"exit": 2, "words": words, "reader": found, "readable": refs}

    with edited(base, output / "v1-probes-other-token") as records:
        add(records)
        key = bytes.fromhex(text["id"]) + bytes(4)
        records.put(reader.PROBE_CHUNKS, key, records.get(reader.PROBE_CHUNKS, key).replace(b"2 + 2", b"2 + 3"))
    broken("v1-probes-other-token", [text["id"], "text", "does not match its id"], [text["id"], "its hash is not its id"])
    with edited(base, output / "v1-probes-missing-weak") as records:
        add(records)
        other = record | {"settings": {"weak": gone.hex()}}
        row = figures(0, ["nll"], 2)
        id = put_record(records, other | {"rows": [row]}, [[(row, 0, 2)]]).hex()
    broken("v1-probes-missing-weak", [id, gone.hex(), "missing"], [id, f"there is no snapshot {gone.hex()}"])
    with edited(base, output / "v1-probes-short-sample") as records:
        add(records)
        row = figures(1, ["entropy"], 2)
        id = put_record(records, record | {"settings": {}, "rows": [row]}, [[(row, 0, 2)]]).hex()
    broken("v1-probes-short-sample", [id, "caf\u00e9", "3 are supervised"], [id, "caf\u00e9", "3 are supervised"])


def make_retention(binary, output, expected):
    ckpt, ingest = runner(binary, "delta")
    store, refs, name = WORK / "store", {}, "embed.weight"
    ckpt(store, "init")
    for step, tensors in enumerate(training_run(9)):
        checkpoint = Checkpoint(f"kept/checkpoint-{step}")
        checkpoint.safetensors("model.safetensors", {name: tensors[name]})
        ingest(store, checkpoint, "run", step)
        refs[f"run@{step}"] = checkpoint.expected()
    # By ckpt: a metric and a policy; what the policy drops, re-based.
    ckpt(store, "tag", "--metric", "eval/loss=0.5", "run@4")
    ckpt(store, "prune", "--keep-last", "2", "--keep-every", "4", "--keep-best", "eval/loss:1:min", "--save")
    kept = {ref: refs[ref] for ref in ("run@0", "run@4", "run@7", "run@8")}
    compact(store)
    with reader_of(store) as opened:
        four, eight = (opened.find(f"run@{step}") for step in (4, 8))
        of = {}
        for step in (0, 4, 7, 8):
            (file,) = opened.files(opened.find(f"run@{step}"))[0].values()
            (of[step],) = opened.read(reader.TENSORS, file.storages[0].tensor).blocks
        depths = {step: opened.value(reader.BLOCKS, block)[2] for step, block in of.items()}
    print("depths of what is left:", depths)

    # With py-lmdb: another metric, and a policy of one run with all that a policy can say.
    rules = {
        "keep_last": 3, "keep_every": 100, "keep_tags": ["best*"], "keep_best": [{"metric": "acc", "count": 2, "order": "max"}],
        "keep_by_worth": 4, "budget_bytes": 10**12, "probe": "p", "least_gap": 0.05, "strong": "run@8", "least_age_seconds": 3600,
        "optimizer_keep": 1, "includes_tagged": True,
    }  # fmt: skip
    with edited(store, output / "v1-retention") as records:
        records.put(reader.METRICS, eight + b"acc", struct.pack("<d", 0.75))
        records.put(reader.POLICIES, b"other", json.dumps(rules).encode())
    expected["stores"]["v1-retention"] = kept
    expected["retention"]["v1-retention"] = {
        "metrics": {"run@4": {"eval/loss": 0.5}, "run@8": {"acc": 0.75}, "run@0": {}},
        "policies": [
            {"run": None, "rules": {"keep_last": 2, "keep_every": 4, "keep_best": [{"metric": "eval/loss", "count": 1, "order": "min"}]}},
            {"run": "other", "rules": rules},
        ],
    }

    # A block that was damaged, and of which no copy was found, with what was packed against it.
    with reader_of(store) as opened:
        harmed = {of[8]}
        while True:
            more = {id for id in opened.keys(reader.BLOCKS) if harmed & {opened.value(reader.BLOCKS, id)[16:48]} and opened.value(reader.BLOCKS, id)[3]}
            if more <= harmed:
                break
            harmed |= more
    steps = sorted(step for step, block in of.items() if block in harmed)
    with edited(store, output / "v1-quarantined") as records:
        for block in harmed:
            value = records.get(reader.BLOCKS, block)
            for place in range(value[3]):
                base = value[16 + 32 * place : 48 + 32 * place]
                if base not in harmed:
                    records.add_uses(reader.BLOCKS, base, -1)
            count = records.get(reader.COUNTS, bytes([reader.BLOCKS]) + block)
            # Uses by blocks that went with it are gone too.
            uses = sum(1 for one in of.values() if one == block)
            records.delete(reader.BLOCKS, block)
            records.put(reader.COUNTS, bytes([reader.BLOCKS]) + block, struct.pack("<QBB", uses, 0, reader.QUARANTINED) + count[10:14] + bytes(4))
    says = [f"{of[step].hex()}" for step in steps] + [f"run@{step}): model.safetensors: tensor {name} cannot be read" for step in steps]
    readable = {ref: what for ref, what in kept.items() if int(ref[4:]) not in steps}
    expected["broken"]["v1-quarantined"] = {
        "exit": 2, "words": ["quarantined", of[8].hex(), *[f"run@{step}" for step in steps]], "reader": ["quarantined", *says], "readable": readable,
    }  # fmt: skip


def make_first(binary, output, expected):
    ckpt, ingest = runner(binary, "dense")

    # A store with a bit of everything.
    store, refs = WORK / "store", {}
    ckpt(store, "init")
    for run, checkpoint in ("torch", torch_files()), ("cut", cut_rows()), ("types", every_type()):
        ingest(store, checkpoint, run, 0)
        refs[f"{run}@0"] = checkpoint.expected()
    for step, options in (100, []), (200, ["--tag", "best", "--tag", "v1.0"]), (300, ["--no-optimizer"]):
        checkpoint = training_checkpoint(step)
        ingest(store, checkpoint, "sft", step, *options)
        refs[f"sft@{step}"] = checkpoint.expected(without=["optimizer.pt"] if options == ["--no-optimizer"] else [])
    refs["best"] = refs["sft@200"]
    raw = Checkpoint("raw")
    raw.safetensors("model.safetensors", {
        "w": ("BF16", [20, 50], bf16(random.normal(0, 1, 1000))), "b": ("F32", [9], numpy.arange(9, dtype="<f4").tobytes()),
    })  # fmt: skip
    ingest(store, raw, "raw", 1, pack="raw")
    refs["raw@1"] = raw.expected()
    ckpt(store, "ingest", raw.directory / "model.safetensors", "--run", "one-file", "--step", "9", "--no-image", "--pack", "dense")
    refs["one-file@9"] = raw.expected()
    compact(store)
    ckpt(store, "pin", "sft@100")
    copy(store, output / "v1-valid")
    expected["stores"]["v1-valid"] = refs

    # A small one, from which the others are made.
    base, checkpoint = WORK / "base", small()
    ckpt(base, "init")
    ingest(base, checkpoint, "run", 5)
    refs = {"run@5": checkpoint.expected()}

    with reader_of(base) as opened:
        id = opened.find("run@5")
        files, _ = opened.files(id)
        model = files["model.safetensors"]
        weight = next(tensor for tensor in model.tensors if tensor.name == "w")
        tensor = model.storages[weight.storage].tensor
        block = opened.read(reader.TENSORS, tensor).blocks[0]
        packed = opened.value(reader.BLOCKS, block)
        optimizer = dict(opened.read(reader.SNAPSHOTS, id).parts)[2]

    # Two that are whole, in states that only a killed writer, or one that drops parts, leaves behind.
    with edited(base, output / "v1-pending") as records:
        records.put(reader.PENDING, bytes(range(16)), struct.pack("<I", 1) + tensor + struct.pack("<I", 2) + block * 2)
        records.add_uses(reader.TENSORS, tensor, 1)
        records.add_uses(reader.BLOCKS, block, 2)
    expected["stores"]["v1-pending"] = refs
    with edited(base, output / "v1-dropped") as records:
        records.put(reader.SNAPSHOTS, id, bytes([1 << 2]) + records.get(reader.SNAPSHOTS, id)[1:])
        records.add_uses(reader.PARTS, optimizer, -1)
    expected["stores"]["v1-dropped"] = {"run@5": checkpoint.expected(without=["optimizer.pt"])}

    def broken(name, **what):
        """exit: of `ckpt verify`. words: what it says. reader: what format-spec/reader says."""
        expected["broken"][name] = what

    def raw_edit(name, change):
        copy(base, output / name)
        path = output / name / "gen-1/data.mdb"
        path.write_bytes(change(bytearray(path.read_bytes())))

    def flip_payload(data):
        places = [i for i in range(len(data)) if data.startswith(packed, i)]
        for place in places:
            data[place + len(packed) // 2] ^= 0x10
        assert places
        return data

    with open(base / "gen-1/data.mdb", "rb") as file:
        walk = pages.Walk(file.fileno(), (base / "gen-1/data.mdb").stat().st_size)
        walk.run()
    leaf = next(page for page, owner in walk.owned.items() if owner == "table tensors")

    def flip_page(data):
        data[leaf * walk.page_size + pages.HEADER + 2] ^= 0x04  # where its second entry begins
        return data

    raw_edit("v1-truncated", lambda data: data[: len(data) // 2 // walk.page_size * walk.page_size])
    broken("v1-truncated", exit=2, words=["data.mdb"], reader=["data.mdb", "the file ends at"])
    raw_edit("v1-flipped-page", flip_page)
    broken("v1-flipped-page", exit=2, words=[f"page {leaf}"], reader=[f"page {leaf}"])
    raw_edit("v1-flipped-bit", flip_payload)
    broken("v1-flipped-bit", exit=2, words=[block.hex(), "checksum"], reader=[block.hex(), "checksum", "tensor w cannot be read"])

    other = bytearray(packed)
    other[-1] ^= 1  # the last byte of the last plane, which is kept as it is
    with edited(base, output / "v1-other-bytes") as records:
        records.put(reader.BLOCKS, block, bytes(other))
    broken("v1-other-bytes", exit=2, words=[block.hex()], reader=[block.hex(), "hash", "tensor w cannot be read"])
    with edited(base, output / "v1-missing-block") as records:
        records.delete(reader.BLOCKS, block)
    broken("v1-missing-block", exit=2, words=[block.hex(), "missing"], reader=[block.hex(), "missing", "tensor w cannot be read"])
    with edited(base, output / "v1-wrong-count") as records:
        records.add_uses(reader.TENSORS, tensor, 1)
    broken("v1-wrong-count", exit=2, words=[tensor.hex(), "count"], reader=[tensor.hex(), "says 2 uses, but there are 1"])
    with edited(base, output / "v1-unknown-codec") as records:
        key = bytes([reader.BLOCKS]) + block
        records.put(reader.BLOCKS, block, b"\x09" + packed[1:])
        value = records.get(reader.COUNTS, key)
        records.put(reader.COUNTS, key, value[:9] + b"\x09" + value[10:])
    broken("v1-unknown-codec", exit=2, words=[block.hex(), "codec 9"], reader=[block.hex(), "codec 9", "tensor w cannot be read"])
    with edited(base, output / "v1-unknown-feature") as records:
        value = records.get(reader.SUPERBLOCK, b"store")
        records.put(reader.SUPERBLOCK, b"store", value[:12] + struct.pack("<Q", 1) + value[20:])
    broken("v1-unknown-feature", exit=65, words=["feature"], reader=["feature"])


# --- What has come out is what was wanted


@contextmanager
def reader_of(path):
    store = reader.Store(str(path))
    try:
        yield store
    finally:
        store.lmdb.close()


def kinds_of_blocks(path):
    """What is in the headers and payloads of a store's blocks, in words."""
    seen = set()
    with reader_of(path) as store:
        for id in store.keys(reader.BLOCKS):
            packed = store.read(reader.BLOCKS, id)
            dtype = reader.DTYPES[packed.element]
            seen.add(f"codec {packed.codec}")
            if packed.codec == reader.PLANES:
                seen.update(f"plane mode {packed.payload[5 * plane]}" for plane in range(dtype.word))
            if packed.codec == reader.DIFFERENCE:
                seen |= {f"depth {packed.depth}", f"{len(packed.base_ids)} bases", f"mask {packed.transform >> 16 & 255}"}
                seen |= {f"difference of {dtype.name}", f"shift {packed.transform >> 8 & 255}"}
    return seen


def verify(output, expected):
    wanted = {
        "v1-valid": {"codec 0", "codec 1", "plane mode 0", "plane mode 1", "plane mode 2"},
        "v1-deltas": {"codec 1", "codec 2", "codec 3", "depth 1", "depth 2", "depth 3", "depth 4", "depth 5", "1 bases", "2 bases"}
        | {f"difference of {name}" for name in ("BF16", "F16", "F32", "F64", "I32", "I64")},
    }  # fmt: skip
    for name, kinds in wanted.items():
        if name in expected["stores"]:
            seen = kinds_of_blocks(output / name)
            print(name, *sorted(seen), sep=", ")
            assert kinds <= seen, f"{name} lacks {sorted(kinds - seen)}"
    for path in sorted(output.glob("*/gen-1/data.mdb")):
        data = path.read_bytes()
        name = path.parts[-3]
        assert len(data) <= LARGEST, f"{name}: {len(data)} bytes"
        for private in (socket.gethostname(), str(pathlib.Path.home()), str(ROOT)):
            assert len(private) < 6 or private.encode() not in data, f"{name} names this machine"
        print(f"{name}: {len(data)} bytes")
    assert {path.parts[-3] for path in output.glob("*/gen-1/data.mdb")} == set(expected["stores"]) | set(expected["broken"])


if __name__ == "__main__":
    main()
