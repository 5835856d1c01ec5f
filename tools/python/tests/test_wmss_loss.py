"""The chunked loss against plain PyTorch with full logits, and the identities of the method."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from ckpt.wmss import mixed_cross_entropy, reference_mixed_cross_entropy, rotation_sources
from ckpt.wmss import loss as loss_file

# Nothing here is large enough for two.
torch.set_num_threads(1)

NAMES = ("hidden_strong", "head_strong", "hidden_weak", "head_weak", "bias_strong", "bias_weak")


def made(tokens, vocabulary, width=7, width_weak=None, dtype=torch.float64, bias=False, seed=0, ignored=0.3):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    width_weak = width_weak or width
    tensors = dict(zip(NAMES, [
        normal(tokens, width), normal(vocabulary, width), normal(tokens, width_weak), normal(vocabulary, width_weak),
        normal(vocabulary) if bias else None, normal(vocabulary) if bias else None]))
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    targets[torch.rand(tokens, generator=generator) < ignored] = -100
    targets[-1] = vocabulary - 1  # one is supervised, whatever chance says
    rotations = torch.randint(1, vocabulary - 1, (tokens,), generator=generator)
    return tensors, targets, rotations


def run(function, tensors, targets, **named):
    """Loss, and the gradients that there are."""
    tensors = {name: None if t is None else t.detach().clone().requires_grad_(t.requires_grad) for name, t in tensors.items()}
    loss = function(*(tensors[name] for name in NAMES[:4]), targets, bias_strong=tensors["bias_strong"],
                    bias_weak=tensors["bias_weak"], **named)
    loss.backward()
    return loss.detach(), {name: t.grad for name, t in tensors.items() if t is not None and t.grad is not None}


def error(found, expected):
    """The largest difference relative to the largest number."""
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300))


def assert_same(found, expected, tolerance):
    assert error(found[0], expected[0]) < tolerance
    assert found[1].keys() == expected[1].keys()
    for name, gradient in found[1].items():
        assert gradient.dtype == expected[1][name].dtype
        assert error(gradient, expected[1][name]) < tolerance, name


ARMS = list(itertools.product(("weak", "shuffled", "temperature", "none"), ("joint", "frozen")))


@pytest.mark.parametrize("mix, weak_branch", ARMS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize("chunk", [1, 5, 64, None])
def test_as_the_reference(mix, weak_branch, dtype, tolerance, chunk):
    for tokens, bias, softcap, scale in ((1, False, None, None), (23, True, None, 0.7), (13, True, 3.0, 1.3), (9, False, 2.0, None)):
        tensors, targets, rotations = made(tokens, 37, 7, 5, dtype, bias)
        named = dict(lam=0.42, mix=mix, weak_branch=weak_branch, rotations=rotations, softcap=softcap, scale=scale)
        assert_same(run(mixed_cross_entropy, tensors, targets, chunk=chunk, **named),
                    run(reference_mixed_cross_entropy, tensors, targets, **named), tolerance)


@pytest.mark.parametrize("mix, weak_branch", ARMS)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_gradcheck(mix, weak_branch, softcap):
    tensors, targets, rotations = made(5, 6, 3, bias=True)

    def loss(*values):
        # What a weak branch that is frozen would have as a numerical gradient is not what is asked for.
        named = dict(zip(NAMES, values if weak_branch == "joint" else (
            v.detach() if "weak" in name else v for name, v in zip(NAMES, values))))
        return mixed_cross_entropy(targets=targets, lam=0.42, mix=mix, weak_branch=weak_branch, rotations=rotations, softcap=softcap,
                                   chunk=2, **named)

    inputs = [t if weak_branch == "joint" or "weak" not in name else t.detach() for name, t in tensors.items()]
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mix, weak_branch", ARMS)
def test_half_precision_is_as_good_as_plain(dtype, mix, weak_branch):
    """Both against double precision of the same numbers: chunks must not cost accuracy."""
    tensors, targets, rotations = made(200, 61, 16, dtype=dtype, bias=True)
    named = dict(mix=mix, weak_branch=weak_branch, rotations=rotations)
    exact = run(reference_mixed_cross_entropy, {n: t.detach().double().requires_grad_() for n, t in tensors.items()}, targets, **named)
    plain = run(reference_mixed_cross_entropy, tensors, targets, **named)
    found = run(mixed_cross_entropy, tensors, targets, chunk=8, **named)
    assert found[0].dtype == torch.float32
    assert error(found[0], exact[0]) < 1.5 * error(plain[0], exact[0]) + 1e-3
    assert found[1].keys() == exact[1].keys()
    for name, gradient in found[1].items():
        assert gradient.dtype == dtype
        norm = exact[1][name].norm()
        lost, lost_by_plain = ((g.double() - exact[1][name]).norm() / norm for g in (gradient, plain[1][name]))
        # The reference adds a bias, and sums its gradient, in float32.
        assert lost < (torch.finfo(dtype).eps if "bias" in name else 1.25 * lost_by_plain + 1e-4), name


def test_sums_of_many_chunks_keep_what_bfloat16_would_lose():
    generator = torch.Generator().manual_seed(1)
    head = torch.zeros(3, 4, dtype=torch.bfloat16)
    sum_, exact, naive = loss_file._RunningProduct(head), torch.zeros(3, 4, dtype=torch.float64), torch.zeros_like(head)
    for _ in range(1000):
        gradient = torch.rand(1, 3, generator=generator).bfloat16()
        hidden = torch.ones(1, 4, dtype=torch.bfloat16)
        sum_.add(gradient, hidden)
        exact += (gradient.t() @ hidden).double()
        naive += gradient.t() @ hidden
    assert error(sum_.total, exact) < 2**-8
    assert error(naive, exact) > 0.1


def test_the_mix_is_the_geometric_mean():
    tensors, targets, _ = made(11, 19, ignored=0)
    lam = 0.42
    log_strong = torch.log_softmax(tensors["hidden_strong"] @ tensors["head_strong"].t(), 1)
    log_weak = torch.log_softmax(tensors["hidden_weak"] @ tensors["head_weak"].t(), 1)
    # CE(q, P_mix) = (1 - lam) CE(q, P_w) + lam CE(q, P_s) + ln C
    log_c = torch.logsumexp((1 - lam) * log_weak + lam * log_strong, 1)
    picked = [p.gather(1, targets[:, None])[:, 0] for p in (log_weak, log_strong)]
    expected = (-(1 - lam) * picked[0] - lam * picked[1] + log_c).mean()
    found = mixed_cross_entropy(*list(tensors.values())[:4], targets, lam=lam)
    assert error(found, expected) < 1e-13


def test_a_uniform_weak_is_a_temperature():
    tensors, targets, _ = made(11, 19)
    tensors["head_weak"] = torch.zeros_like(tensors["head_weak"], requires_grad=True)
    found = run(mixed_cross_entropy, tensors, targets, lam=0.3, weak_branch="frozen")
    assert_same(found, run(mixed_cross_entropy, tensors, targets, lam=0.3, mix="temperature"), 1e-13)


def test_equal_branches_are_plain_fine_tuning_at_half_the_gradient():
    tensors, targets, _ = made(11, 19, dtype=torch.float32)
    tensors["hidden_weak"], tensors["head_weak"] = tensors["hidden_strong"], tensors["head_strong"]
    loss, gradients = run(mixed_cross_entropy, tensors, targets)
    plain_loss, plain = run(mixed_cross_entropy, tensors, targets, mix="none")
    assert torch.equal(loss, plain_loss)
    for part in ("hidden", "head"):
        assert torch.equal(gradients[f"{part}_strong"], gradients[f"{part}_weak"])
        assert torch.equal(2 * gradients[f"{part}_strong"], plain[f"{part}_strong"])


def test_a_shuffled_weak_is_as_unsure():
    tensors, targets, rotations = made(11, 19, ignored=0)
    z = (tensors["hidden_weak"] @ tensors["head_weak"].t()).detach()
    rotated = loss_file._rotated(z, targets, rotations)
    assert torch.equal(rotated, z.gather(1, rotation_sources(19, targets, rotations)))
    assert torch.equal(rotated.sort(1).values, z.sort(1).values)
    assert torch.equal(rotated.gather(1, targets[:, None]), z.gather(1, targets[:, None]))
    assert torch.equal(loss_file._rotated(rotated, targets, 18 - rotations), z)


def test_accumulated_equals_unaccumulated():
    tensors, targets, _ = made(40, 19, dtype=torch.float32)
    count = int((targets != -100).sum())
    whole = run(mixed_cross_entropy, tensors, targets)
    parts = []
    for rows in (slice(0, 3), slice(3, 31), slice(31, 40)):
        own = {n: t if t is None or "hidden" not in n else t[rows].detach().requires_grad_() for n, t in tensors.items()}
        parts.append(run(mixed_cross_entropy, own, targets[rows], denominator=torch.tensor(count)))
    assert abs(sum(p[0] for p in parts) - whole[0]) < 1e-6
    for name in ("head_strong", "head_weak"):
        assert (sum(p[1][name] for p in parts) - whole[1][name]).abs().max() < 1e-6
    for name in ("hidden_strong", "hidden_weak"):
        assert (torch.cat([p[1][name] for p in parts]) - whole[1][name]).abs().max() < 1e-6


def test_no_supervised_token():
    tensors, targets, _ = made(4, 9)
    targets[:] = -100
    with pytest.raises(ValueError, match="no supervised token"):
        mixed_cross_entropy(*list(tensors.values())[:4], targets)
    loss, gradients = run(mixed_cross_entropy, tensors, targets, denominator=5)
    assert loss == 0 and len(gradients) == 4
    assert all(torch.count_nonzero(g) == 0 for g in gradients.values())


def test_what_backward_is_given_scales():
    tensors, targets, _ = made(11, 19)
    once = run(mixed_cross_entropy, tensors, targets)
    scaled = run(lambda *a, **k: -3 * mixed_cross_entropy(*a, **k), tensors, targets)
    for name, gradient in once[1].items():
        assert error(scaled[1][name], -3 * gradient) < 1e-14


def test_a_second_backward_pass():
    tensors, targets, _ = made(11, 19)
    head = tensors["head_strong"]
    loss = mixed_cross_entropy(*list(tensors.values())[:4], targets, chunk=4)
    first, = torch.autograd.grad(loss, head, retain_graph=True)
    second, = torch.autograd.grad(loss, head)
    assert torch.equal(first, second) and first.data_ptr() != second.data_ptr()


def test_a_tied_head_gets_both_gradients():
    tensors, targets, _ = made(11, 19)
    head = tensors["head_strong"]
    loss = mixed_cross_entropy(tensors["hidden_strong"], head, tensors["hidden_weak"], head, targets)
    loss.backward()
    separate = run(mixed_cross_entropy, {**tensors, "head_weak": head}, targets)[1]
    assert error(head.grad, separate["head_strong"] + separate["head_weak"]) < 1e-14


def test_no_gradient_is_made_that_is_not_wanted(monkeypatch):
    tensors, targets, _ = made(11, 19)
    monkeypatch.setattr(loss_file._RunningProduct, "add", lambda *_: pytest.fail("a gradient of a head"))
    plain = [t.detach() for t in list(tensors.values())[:4]]
    mixed_cross_entropy(*plain, targets)
    with torch.no_grad():
        mixed_cross_entropy(*list(tensors.values())[:4], targets)
    plain[0].requires_grad_()
    mixed_cross_entropy(*plain, targets).backward()
    assert plain[0].grad is not None


def test_statistics():
    tensors, targets, _ = made(11, 19)
    values = list(tensors.values())[:4]
    loss, statistics = mixed_cross_entropy(*values, targets, lam=0.4, statistics=True, chunk=3)
    assert torch.equal(loss, mixed_cross_entropy(*values, targets, lam=0.4, chunk=3))
    kept = targets != -100
    z_strong, z_weak = values[0] @ values[1].t(), values[2] @ values[3].t()
    for found, z in ((statistics.probability, 0.4 * z_strong + 0.6 * z_weak), (statistics.probability_strong, z_strong)):
        assert not found.requires_grad
        assert error(found, z.softmax(1)[kept].gather(1, targets[kept, None]).mean()) < 1e-13


def test_autocast_as_linear_does():
    tensors, targets, _ = made(11, 19, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(mixed_cross_entropy, tensors, targets)
    halves = {n: None if t is None else t.detach().bfloat16().requires_grad_() for n, t in tensors.items()}
    cast = run(mixed_cross_entropy, halves, targets)
    assert found[0] == cast[0]
    for name, gradient in found[1].items():
        assert gradient.dtype == torch.float32 and torch.equal(gradient, cast[1][name].float())


def test_a_weak_model_of_another_dtype():
    tensors, targets, rotations = made(11, 19, 7, 5)
    for name in ("hidden_weak", "head_weak"):
        tensors[name] = tensors[name].detach().float().requires_grad_()
    for mix in ("weak", "shuffled"):
        named = dict(mix=mix, rotations=rotations)
        found = run(mixed_cross_entropy, tensors, targets, chunk=4, **named)
        assert_same(found, run(reference_mixed_cross_entropy, tensors, targets, **named), 1e-5)


@pytest.mark.parametrize("change", [
    {"lam": 1.5}, {"lam": float("nan")}, {"mix": "strong"}, {"weak_branch": "both"}, {"softcap": 0}, {"chunk": 0}, {"mix": "shuffled"},
    {"hidden_weak": None}, {"head_weak": torch.zeros(18, 7, dtype=torch.float64)}, {"targets": torch.zeros(3, dtype=torch.long)}])
def test_what_does_not_fit_is_refused(change):
    tensors, targets, _ = made(11, 19)
    with pytest.raises(ValueError):
        mixed_cross_entropy(**{**tensors, "targets": targets, **change})


def test_memory_is_that_of_chunks():
    """No tensor as large as the logits is ever allocated."""
    tensors, targets, _ = made(600, 3000, 4, dtype=torch.float32, ignored=0)
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            leaves = torch.utils._pytree.tree_leaves(result)
            seen.extend(t.untyped_storage().nbytes() for t in leaves if isinstance(t, torch.Tensor))
            return result

    with Watch():
        run(mixed_cross_entropy, tensors, targets, chunk=50)
    assert max(seen) <= 50 * 3000 * 4
