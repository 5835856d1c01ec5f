"""Writes Tests/Golden/formats/torch/*.pt and torch-cases.json: files of torch.save and what is in them.

    python make_torch_cases.py [OUTPUT DIRECTORY]

Needs `torch` and `numpy` (the versions used are named in the output). The expected names, dtypes, shapes, strides
and bytes come from `torch.load` and from walking the loaded object here, not from the reader under test.
"""

import io
import json
import pathlib
import sys
import zipfile
from collections import OrderedDict, defaultdict

import numpy
import torch

DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16",
    torch.uint32: "U32", torch.int32: "I32", torch.uint64: "U64", torch.int64: "I64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
    torch.complex128: "C128", torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0", torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip


class TrainingArguments:
    """Stands for the class of a library that is not there when the file is read."""

    def __init__(self):
        self.learning_rate = 1e-4
        self.hidden = torch.arange(3.0)


class LoudTensor(torch.Tensor):
    """A subclass of Tensor, which is pickled by _rebuild_from_type_v2."""


def numbers(*shape, dtype=torch.float32):
    count = int(numpy.prod(shape, dtype=numpy.int64))
    return (torch.arange(count) % 100).reshape(shape).to(dtype)


def is_plain(tensor):
    return tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_conj() and not tensor.is_neg()


def walk(value, path, found, outer=()):
    """The names that the reader promises. `outer` holds the containers around the value: cycles end at them."""
    if isinstance(value, torch.Tensor):
        if is_plain(value):
            found.append((".".join(path) if path else "tensor", value))
        return
    if id(value) in outer or isinstance(value, torch.Size):
        return
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return
    for key, item in items:
        walk(item, (*path, str(key)), found, (*outer, id(value)))


def described(value):
    found = []
    walk(value, (), found)
    uses = {}
    rows = []
    for name, tensor in found:
        uses[name] = uses.get(name, 0) + 1
        if uses[name] > 1:
            name = f"{name}#{uses[name]}"
        tensor = tensor.detach()
        if type(tensor) is not torch.Tensor:
            tensor = tensor.as_subclass(torch.Tensor)
        whole = tensor.clone(memory_format=torch.contiguous_format)
        data = bytes(whole.untyped_storage())[: whole.nbytes]
        rows.append({
            "name": name, "dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape),
            "strides": None if tensor.is_contiguous() else list(tensor.stride()),
            "data": data.hex(),
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["name"].encode())


def optimizer_state():
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def contents():
    """Name and value of every file that torch.save writes as it is."""
    weight = numbers(4, 6)
    table = numbers(5, 3, dtype=torch.bfloat16)
    fused = numbers(6, 4)
    yield "views", {
        "base": weight, "transposed": weight.t(), "row": weight[2], "column": weight[:, 3], "offset": weight[1:3, 2:5],
        "expanded": numbers(1, 3).expand(4, 3), "permuted": numbers(2, 3, 4).permute(2, 0, 1),
        "reshaped": weight.view(2, 12), "ones": numbers(7)[:, None].expand(7, 1), "step": numbers(10)[::3],
    }  # fmt: skip
    yield "tied", {"embed": table, "head": table, "again": table[:]}
    yield "fused", {"qkv": fused, "q": fused[:2], "k": fused[2:4], "v": fused[4:]}
    yield "partial", {"part": numbers(4, 4)[:2], "two": [numbers(6).view(2, 3)]}
    shared = numbers(6)
    yield "two-shapes", {"a": shared.view(2, 3), "b": shared.view(3, 2)}
    yield "dtypes", {str(dtype): numbers(2, 3).to(dtype) for dtype in DTYPES}
    one = numbers(4, dtype=torch.uint16)
    yield "uint16-view", {"all": one, "half": one[1:3]}
    yield "uint16-partial", {"half": one[1:3]}
    yield "scalars", {"float": torch.tensor(2.5), "int": torch.tensor(7), "of one": numbers(1, 1, 1)}
    yield "empty", {"none": numbers(0), "rows": numbers(0, 3), "columns": numbers(3, 0), "view": numbers(4, 3)[4:]}
    yield "bare", numbers(2, 2)
    yield "list", [numbers(2), (numbers(3), {"x": numbers(1)}), [], {}]
    yield "parameters", OrderedDict(weight=torch.nn.Parameter(numbers(2, 3)), bias=torch.nn.Parameter(numbers(3)))
    yield "module", torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2)).state_dict()
    yield "adamw", optimizer_state()
    yield "colliding", {"a.b": numbers(1), "a": {"b": numbers(2)}, "0": numbers(3), 0: numbers(4)}
    yield "keys", {None: numbers(1), True: numbers(2), -3: numbers(3), "": {"": numbers(4)}, "é": numbers(5), "e\u0301": numbers(6)}
    yield "default-dict", defaultdict(list, {"a": [numbers(2)], "size": torch.Size([2, 3]), "dtype": torch.float16})
    yield "subclass", {"loud": numbers(4).as_subclass(LoudTensor), "plain": numbers(4)}
    yield "big-integers", {"x": 2**100, "y": -(2**63), "z": 2**63 - 1, "w": b"bytes", "t": numbers(2), "f": {1, 2}}
    cycle = {"t": numbers(2)}
    cycle["self"] = cycle
    yield "cycle", cycle
    yield "storage", {"storage": numbers(4).untyped_storage(), "t": numbers(2)}
    yield "conjugated", {"c": numbers(3, dtype=torch.complex64).conj(), "t": numbers(2)}
    yield "arguments", {"args": TrainingArguments(), "t": numbers(2), "path": pathlib.PurePosixPath("a/b")}
    yield "sparse", {"s": torch.eye(3).to_sparse(), "csr": torch.eye(2).to_sparse_csr(), "t": numbers(2)}
    yield "quantised", {"q": torch.quantize_per_tensor(numbers(4), 0.1, 0, torch.qint8), "t": numbers(2)}
    yield "random-state", {"numpy": numpy.random.RandomState(1).get_state(), "scalar": numpy.float64(2.0), "t": numbers(2)}


SKIPPED = {
    "arguments": ["__main__ TrainingArguments", "pathlib PurePosixPath"],
    "sparse": ["torch._utils _rebuild_sparse_tensor", "torch.serialization _get_layout"],
    "quantised": ["torch._utils _rebuild_qtensor"],
    "conjugated": ["torch._utils _rebuild_tensor_v2"],
    "random-state": ["numpy dtype", "numpy._core.multiarray _reconstruct", "numpy._core.multiarray scalar"],
}


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


class Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors after the entries."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def repacked(data, change=lambda name, body: body, stream=None, limit=None, wide=False):
    """The archive written again by zipfile: with zip64 records for anything over `limit` bytes."""
    stream = stream or io.BytesIO()
    usual = zipfile.ZIP64_LIMIT
    try:
        zipfile.ZIP64_LIMIT = usual if limit is None else limit
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w") as new:
            for info in old.infolist():
                with new.open(zipfile.ZipInfo(info.filename), "w", force_zip64=wide) as entry:
                    entry.write(change(info.filename, old.read(info)))
    finally:
        zipfile.ZIP64_LIMIT = usual
    return stream.data if isinstance(stream, Unseekable) else stream.getvalue()


def main():
    root = pathlib.Path(__file__).resolve().parents[3]
    output = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "Tests/Golden/formats"
    (output / "torch").mkdir(parents=True, exist_ok=True)
    cases = []

    def add(name, data, error=None):
        case = {"name": name, "file": f"torch/{name}.pt"}
        (output / case["file"]).write_bytes(data)
        if error:
            case["error"] = error
        else:
            case["tensors"] = described(torch.load(io.BytesIO(data), weights_only=False))
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                case["storages"] = sum("/data/" in entry for entry in archive.namelist())
            case["skipped"] = SKIPPED.get(name, [])
        cases.append(case)

    for name, value in contents():
        add(name, saved(value))
    state = optimizer_state()
    for protocol in (2, 3, 4, 5):
        value = {"state": state, "bytes": b"\xff\x00", "set": frozenset([1, 2]), "long": "x" * 300, "é": numbers(3)}
        add(f"protocol-{protocol}", saved(value, pickle_protocol=protocol))
    plain = saved({"w": numbers(3, 4), "b": numbers(4, dtype=torch.bfloat16)})
    add("zip64", repacked(plain, limit=1, wide=True))
    add("zip-local64", repacked(plain, wide=True))
    add("zip-descriptors", repacked(plain, stream=Unseekable()))
    add("big-endian", repacked(plain, change=lambda name, body: b"big" if name.endswith("byteorder") else body), "unsupported")
    add("legacy", saved({"w": numbers(2)}, _use_new_zipfile_serialization=False), "unsupported")
    short = repacked(plain, change=lambda name, body: body[:-4] if name.endswith("data/0") else body)
    add("short-storage", short, "malformed")

    versions = {"torch": torch.__version__, "numpy": numpy.__version__}
    lines = ",\n".join(json.dumps(case) for case in cases)
    (output / "torch-cases.json").write_text('{"versions": %s, "cases": [\n%s\n]}\n' % (json.dumps(versions), lines))
    total = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{len(cases)} cases; {total} bytes in {output.name}")


main()
