"""Weights into models, beside torch's own way from a file."""

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")


class Model(torch.nn.Module):
    def __init__(self, dtype=torch.float32, width=64):
        super().__init__()
        self.embed = torch.nn.Embedding(50, width, dtype=dtype)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(width, width, dtype=dtype) for _ in range(2)])
        self.norm = torch.nn.BatchNorm1d(width)
        self.head = torch.nn.Linear(width, 50, bias=False, dtype=dtype)
        self.head.weight = self.embed.weight


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_as_load_state_dict_does(store, tmp_path, image, stored, wanted):
    source = Model(stored)
    store.ingest(source, run="r", step=0, image=image)
    safetensors_torch.save_model(source, str(tmp_path / "m.safetensors"))
    expected, model = Model(wanted), Model(wanted)
    missing, unexpected = expected.load_state_dict(safetensors_torch.load_file(tmp_path / "m.safetensors"), strict=False)
    places = {name: value.data_ptr() for name, value in model.state_dict().items()}
    result = store["r"].load_into(model)
    assert result == ([], []) and set(missing) <= {"embed.weight", "head.weight"} and unexpected == []
    for name, value in model.state_dict().items():
        source_value = source.state_dict()[name].to(value.dtype)
        assert torch.equal(value, source_value) and value.data_ptr() == places[name], name
    assert model.head.weight is model.embed.weight


def test_what_does_not_fit_changes_nothing(store):
    source = Model()
    state = source.state_dict()
    store.ingest({**state, "other": torch.ones(2)}, run="more", step=0)
    store.ingest({name: value for name, value in state.items() if name != "layers.0.bias"}, run="less", step=0)
    store.ingest({**state, "layers.0.bias": torch.ones(65)}, run="wide", step=0)
    for run, message in [("more", "left over: other"), ("less", "missing: layers.0.bias"), ("wide", "layers.0.bias is")]:
        model = Model()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(RuntimeError, match=message):
            store[run].load_into(model)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model = Model()
    assert store["more"].load_into(model, strict=False).unexpected_keys == ["other"] and torch.equal(model.embed.weight, source.embed.weight)
    assert store["less"].load_into(Model(), strict=False).missing_keys == ["layers.0.bias"]
    with pytest.raises(RuntimeError, match="layers.0.bias"):
        store["wide"].load_into(Model(), strict=False)
    with pytest.raises(RuntimeError, match="meta"), torch.device("meta"):
        store["more"].load_into(Model(), strict=False)


def test_views_and_slices_of_parameters(store):
    """Parameters that do not lie side by side, and tensors of more rows than pass at a time."""
    wide = torch.randn(30, 40)
    store.ingest({"w": wide.T.contiguous(), "long": torch.arange(200_000.0).reshape(-1, 2)}, run="r", step=0)
    model = torch.nn.Module()
    model.register_buffer("w", torch.zeros(30, 40).T)
    model.register_buffer("long", torch.zeros(100_000, 2, dtype=torch.float64))
    from ckpt import _load

    stage, _load._STAGE_BYTES = _load._STAGE_BYTES, 1000
    try:
        store["r"].load_into(model)
    finally:
        _load._STAGE_BYTES = stage
    assert torch.equal(model.w, wide.T) and torch.equal(model.long, torch.arange(200_000.0).reshape(-1, 2).double())


def test_autograd_notices(store):
    source = torch.nn.Linear(4, 4)
    store.ingest(source, run="r", step=0)
    model = torch.nn.Linear(4, 4)
    loss = (model.weight * model.weight).sum()
    store["r"].load_into(model)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_state_dicts_on_devices(store):
    source = Model()
    store.ingest(source, run="r", step=0)
    for device in (None, "cpu"):
        found = store["r"].state_dict(device=device)
        assert set(found) == set(source.state_dict()) and all(torch.equal(found[name], value) for name, value in source.state_dict().items())
    if torch.cuda.is_available():
        assert all(value.is_cuda for value in store["r"].state_dict(device="cuda").values())
        model = Model().cuda()
        store["r"].load_into(model)
        assert all(torch.equal(value.cpu(), source.state_dict()[name]) for name, value in model.state_dict().items())


def test_assigned_in_place_of_copied(store):
    source = Model()
    store.ingest(source, run="r", step=0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert store["r"].load_into(model, assign=True) == ([], [])
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.head.weight is model.embed.weight and model.head.weight.data_ptr() == model.embed.weight.data_ptr()
    again = Model()
    store["r"].load_into(again, assign=True)
    # Trained, it is the model's own: neither the store nor another model sees it.
    model.layers[0](torch.ones(64)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.layers[0].bias, source.layers[0].bias)
    assert torch.equal(again.layers[0].bias, source.layers[0].bias) and torch.equal(store["r"].torch("layers.0.bias"), source.layers[0].bias)
    assert store.verify()["ok"]
    other = Model(torch.bfloat16)
    store["r"].load_into(other, assign=True)
    assert other.embed.weight.dtype == torch.bfloat16 and torch.equal(other.embed.weight, source.embed.weight.bfloat16())
