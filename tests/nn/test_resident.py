"""Resident forms: equal outputs up to rounding, equal state; what is kept follows changes of the layer."""

import copy
import io
import pickle
import shutil
import warnings

import pytest
import torch
from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.factor import factorize
from lpcompress.nn import FROM_HEADS, INTO_HEADS, BareWeight, TiedHead, build, from_factorization, int8, spec_of
from lpcompress.nn.residence import DENSE, INT8, RESIDENCES, STORED, residing, wanted

OUTPUTS, INPUTS = 24, 12
PLAIN = {
    "linear": lambda: nn.Linear(INPUTS, OUTPUTS),
    "conv": lambda: nn.Conv1d(4, OUTPUTS, 3, padding=1),
    "embedding": lambda: nn.Embedding(OUTPUTS, INPUTS, padding_idx=0),
    "into heads": lambda: BareWeight(nn.Parameter(torch.empty(INPUTS, 2, 12)), INTO_HEADS),
    "from heads": lambda: BareWeight(nn.Parameter(torch.empty(OUTPUTS, 3, 4)), FROM_HEADS),
}
INPUT = {
    "linear": lambda: torch.randn(5, INPUTS),
    "conv": lambda: torch.randn(2, 4, 7),
    "embedding": lambda: torch.arange(OUTPUTS).view(4, 6),
    "into heads": lambda: torch.randn(3, 2, INPUTS),
    "from heads": lambda: torch.randn(3, 2, 3, 4),
}
KINDS = ("low_rank", "clustered", "sparse", "entries", "coded", "coded entries")
by_role = pytest.mark.parametrize("role", PLAIN)
by_kind = pytest.mark.parametrize("kind", KINDS)
by_form = pytest.mark.parametrize("resident", RESIDENCES)


@pytest.fixture
def case(random_factorization):
    """A function (role, kind, resident) -> a layer in evaluation mode, and inputs for it."""

    def make(role, kind="coded", resident="auto"):
        torch.manual_seed(0)
        with residing(resident):
            layer = from_factorization(random_factorization(kind, OUTPUTS, INPUTS), PLAIN[role]().eval())
        return layer, INPUT[role]()

    return make


@by_role
@by_kind
@by_form
@torch.no_grad()
def test_equal_outputs_and_state(case, role, kind, resident):
    stored, inputs = case(role, kind, "codes")
    layer, _ = case(role, kind, resident)
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    expected, found = stored(inputs), layer(inputs)
    tolerance = 0.03 * float(expected.abs().max()) if layer.way() == INT8 else 1e-5
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=1e-5)
    assert torch.equal(layer(inputs), found)
    after = layer.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert spec_of(layer) == spec_of(stored) and torch.equal(layer.dense(), stored.dense())


@pytest.mark.parametrize(
    ("role", "kind", "ways"),
    [
        ("embedding", "coded", {"auto": STORED, "codes": STORED, "dense": DENSE, "int8": STORED}),
        ("linear", "coded", {"auto": DENSE, "codes": STORED, "dense": DENSE, "int8": INT8}),
        ("into heads", "coded", {"auto": DENSE, "codes": STORED, "dense": DENSE, "int8": INT8}),
        ("conv", "coded", {"auto": DENSE, "codes": STORED, "dense": DENSE, "int8": DENSE}),
        ("linear", "low_rank", {"auto": STORED, "codes": STORED, "dense": DENSE, "int8": INT8}),
    ],
)
def test_the_table(case, role, kind, ways):
    if kind == "low_rank":  # 6 (24 + 12) of 24 * 12 multiplications
        assert case(role, kind)[0].products_as_stored() == 0.75
    assert {resident: case(role, kind)[0].way(resident) for resident in RESIDENCES} == ways


def test_a_low_rank_that_multiplies_slower_is_dense(random_factorization):
    layer = from_factorization(random_factorization("low_rank", 10, 8), nn.Linear(8, 10).eval())
    assert layer.products_as_stored() == 6 * 18 / 80 and layer.way() == DENSE


def test_bytes_in_memory(case):
    layer, inputs = case("linear", "coded entries")
    stored = sum(tensor.numel() * tensor.element_size() for tensor in layer.state_dict().values())
    kept = {name: layer.bytes_in_memory(name) - stored for name in RESIDENCES}
    assert kept["dense"] == kept["auto"] == OUTPUTS * INPUTS * 4
    assert kept["codes"] == OUTPUTS * INPUTS + 2 * OUTPUTS and kept["int8"] == OUTPUTS * (INPUTS + 4)
    with torch.no_grad():
        layer(inputs)
    assert layer.codes is None and layer.held.shape == (OUTPUTS, INPUTS)  # the integers are not kept beside it


@torch.no_grad()
def test_integers_as_long_as_the_matrix_become_the_matrix():
    torch.manual_seed(0)
    plain = nn.Embedding(200, INPUTS, padding_idx=0).eval()
    layer = from_factorization(factorize(plain.weight.detach(), "coded", ratio=0.28), plain)
    assert layer.codes.dtype == torch.int32
    assert {layer.way(resident) for resident in RESIDENCES} == {DENSE}
    stored = sum(tensor.numel() * tensor.element_size() for tensor in layer.state_dict().values())
    copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    rebuilt = build(spec_of(layer), plain).eval()
    rebuilt.load_state_dict(layer.state_dict())
    expected = layer.dense()
    for each in (layer, *copies, rebuilt):
        assert torch.equal(each(torch.arange(200)), expected)
        assert each.codes is None and each.held.shape == (200, INPUTS)
        assert each.bytes_in_memory() == each.bytes_in_memory("codes") == stored + 200 * INPUTS * 4


@by_role
@pytest.mark.parametrize("resident", ["dense", "int8"])
def test_what_is_kept_follows_the_layer(case, role, resident):
    layer, inputs = case(role, "coded", resident)
    fresh = case(role, "coded", "codes")[0]
    tolerance = {"atol": 0.1, "rtol": 0.05} if layer.way() == INT8 else {"atol": 1e-5, "rtol": 1e-5}

    def compare():
        with torch.no_grad():
            torch.testing.assert_close(layer(inputs), fresh(inputs), **tolerance)

    compare()
    with torch.no_grad():
        for each in (layer, fresh):
            each.scales.mul_(2)  # in place, as an optimizer does
    compare()
    for each in (layer, fresh):
        each.levels.data = each.levels.data * 3
    compare()
    state = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    state["levels"] /= 6
    for each in (layer, fresh):
        each.load_state_dict(state)
    compare()
    for each in (layer, fresh):
        each.half().float()
    compare()
    assert layer.train().held is None
    layer.eval()
    compare()
    if role == "embedding":
        for each in (layer, fresh):
            each.resize(OUTPUTS + 3)
        inputs = torch.arange(OUTPUTS + 3)
        compare()
    layer.reside("codes")
    compare()
    assert layer.held is None


@by_role
@by_kind
def test_gradients_in_evaluation(case, role, kind):
    """They are those of the layer that computes with what it stores."""
    gradients = {}
    for resident in ("codes", "dense"):
        layer, inputs = case(role, kind, resident)
        inputs = inputs.requires_grad_() if inputs.is_floating_point() else inputs
        layer(inputs).square().sum().backward()
        assert (layer.held is not None) == (resident == "dense")
        tensors = {**dict(layer.named_parameters()), "inputs": inputs}
        gradients[resident] = {name: tensor.grad for name, tensor in tensors.items()}
    for name, expected in gradients["codes"].items():
        found = gradients["dense"][name]
        assert (found is None) == (expected is None), name
        if expected is not None:
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("resident", ["dense", "int8", "auto"])
def test_training_computes_with_what_is_stored(case, resident):
    layer, inputs = case("linear", "coded", resident)
    with torch.no_grad():
        layer(inputs)
    layer.train()(inputs).sum().backward()
    assert layer.held is None and layer.levels.grad is not None and layer.scales.grad is not None


def test_int8_keeps_gradients_and_says_that_it_is_slow_then(case):
    layer, inputs = case("linear", "coded", "int8")
    stored, _ = case("linear", "coded", "codes")
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        layer(inputs).sum().backward()
    stored(inputs).sum().backward()
    assert torch.equal(layer.levels.grad, stored.levels.grad)


@by_role
@pytest.mark.parametrize("resident", ["auto", "dense", "int8"])
@torch.no_grad()
def test_copies_and_pickles(case, role, resident):
    layer, inputs = case(role, "coded", resident)
    expected = layer(inputs)
    copied, pickled = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))
    assert (copied.held is None) == (layer.way() != DENSE) and pickled.held is None
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    for other in (copied, pickled, torch.load(saved, weights_only=False)):
        assert torch.equal(other(inputs), expected) and other.residence == resident
    layer.scales.mul_(2)
    assert torch.equal(copied(inputs), expected)  # a copy of its own


@by_role
@pytest.mark.parametrize("resident", RESIDENCES)
@torch.no_grad()
def test_half_precision(case, role, resident):
    layer, inputs = case(role, "coded", resident)
    expected = layer(inputs)
    layer.bfloat16()
    found = layer(inputs.bfloat16() if inputs.is_floating_point() else inputs)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.3, rtol=0.1)
    loaded = build(spec_of(layer), PLAIN[role]().bfloat16().eval())  # as a layer that was loaded so
    loaded.residence = resident
    loaded.load_state_dict(layer.state_dict())
    assert torch.equal(loaded(inputs.bfloat16() if inputs.is_floating_point() else inputs), found)


@pytest.mark.parametrize(
    ("role", "settled"), [*((role, True) for role in PLAIN), ("linear", False), ("embedding", False)]
)
@pytest.mark.parametrize("resident", RESIDENCES)
@torch.no_grad()
def test_compiled_without_graph_breaks(case, role, resident, settled):
    layer, inputs = case(role, "coded", resident)
    if settled:
        layer.settle()
    torch.compiler.reset()

    def run(inputs):
        if "heads" in role:
            return torch.einsum(layer.equation, inputs, layer)
        return layer(inputs)

    found = torch.compile(run, fullgraph="heads" not in role, backend="aot_eager")(inputs)
    torch.testing.assert_close(found, layer(inputs), atol=0.2 if layer.way() == INT8 else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("role", ["linear", "conv", "embedding"])
@pytest.mark.parametrize("resident", RESIDENCES)
def test_exported(case, role, resident):
    layer, inputs = case(role, "coded", resident)
    layer.settle()
    program = torch.export.export(layer, (inputs,))
    with torch.no_grad():
        expected = layer(inputs)
        torch.testing.assert_close(program.module()(inputs), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_embedding_with_a_head_is_dense(case):
    embedding, ids = case("embedding")
    hidden = torch.randn(3, INPUTS)
    assert embedding.way() == STORED
    head = TiedHead(embedding, None).eval()
    assert embedding.way() == DENSE and embedding.way("codes") == STORED
    torch.testing.assert_close(head(hidden), hidden @ embedding.dense().T, atol=1e-5, rtol=1e-5)
    assert torch.equal(embedding(ids), embedding.dense()[ids]) and embedding.held is not None
    assert torch.equal(head.weight @ hidden.T, embedding.dense() @ hidden.T)


@torch.no_grad()
def test_the_wish(monkeypatch):
    assert wanted() == "auto"
    monkeypatch.setenv("LPCOMPRESS_RESIDENT", "int8")
    assert wanted() == "int8"
    with residing(None):
        assert wanted() == "int8"
    with residing("codes"):
        assert wanted() == "codes"
    monkeypatch.setenv("LPCOMPRESS_RESIDENT", "fast")
    with pytest.raises(
        LpCompressError, match=r"LPCOMPRESS_RESIDENT must be one of auto, codes, dense, int8\. Got 'fast'"
    ):
        wanted()
    with pytest.raises(LpCompressError, match="resident must be one of"), residing("fast"):
        pass


@pytest.mark.parametrize("operator", int8.OPERATORS, ids=lambda each: each.name)
def test_operators_give_the_exact_product_of_what_is_rounded(operator):
    if not int8._works(operator, "cpu"):
        pytest.skip("not on this machine")
    matrix, inputs, bias = torch.randn(40, 70), torch.randn(2, 9, 70), torch.randn(40)
    held = int8.rounded(matrix, operator)
    found = int8.multiply(inputs, held.packed, held.scales, bias, operator)
    numbers, scales = int8.whole(matrix)
    own, steps = int8.whole(inputs)
    expected = (own * steps) @ (numbers * scales).T + bias
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    alone = int8.multiply(inputs[:, :1], held.packed, held.scales, bias, operator)
    torch.testing.assert_close(alone, found[:, :1], atol=1e-6, rtol=1e-6)  # whatever else is in the batch


@pytest.mark.parametrize("operator", int8.OPERATORS, ids=lambda each: each.name)
def test_operators_take_odd_inputs(operator):
    if not int8._works(operator, "cpu"):
        pytest.skip("not on this machine")
    held = int8.rounded(torch.randn(40, 70), operator)

    def run(inputs):
        return int8.multiply(inputs, held.packed, held.scales, None, operator)

    assert run(torch.zeros(0, 5, 70)).shape == (0, 5, 40)
    assert torch.equal(run(torch.zeros(3, 70)), torch.zeros(3, 40))
    turned = torch.randn(70, 20).T
    assert torch.equal(run(turned), run(turned.contiguous()))
    rows = torch.randn(4, 70)
    alone = run(rows)
    rows[1], rows[2] = torch.nan, 1e-40
    found = run(rows)
    assert found[1].isnan().all() and found[2].abs().max() < 1e-30  # and the neighbours do not see it
    assert torch.equal(found[[0, 3]], alone[[0, 3]])


def test_int_mm_is_called_with_the_sizes_that_cuda_takes(monkeypatch):
    product, sizes = torch._int_mm, []

    def of_cuda(left, right):  # raises there otherwise
        sizes.append((*left.shape, right.shape[1]))
        return product(left, right)

    monkeypatch.setattr(torch, "_int_mm", of_cuda)
    for rows, columns, outputs in ((1, 20, 203), (17, 64, 40), (40, 70, 2), (16, 8, 8)):
        held = int8.rounded(torch.randn(outputs, columns), int8.OPERATORS[1])
        inputs = torch.randn(rows, columns)
        found = int8.multiply(inputs, held.packed, held.scales, None, int8.OPERATORS[1])
        numbers, steps = int8.whole(inputs)
        expected = (numbers * steps) @ (held.packed[:outputs, :columns] * held.scales.unsqueeze(1)).T
        torch.testing.assert_close(found, expected)
    assert all(m > 16 and k % 8 == n % 8 == 0 for m, k, n in sizes)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("resident", RESIDENCES)
@torch.no_grad()
def test_compiled_by_inductor(case, resident):
    layer, inputs = case("linear", "coded", resident)
    expected = layer(inputs)
    torch.compiler.reset()
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(inputs), expected, atol=1e-5, rtol=1e-5)


def test_without_an_operator_int8_is_dense_and_says_so_once(case, monkeypatch):
    monkeypatch.setattr(int8, "OPERATORS", ())
    int8.operator_on.cache_clear()
    try:
        layer, inputs = case("linear", "coded", "int8")
        with pytest.warns(UserWarning, match="no product of 8-bit integers on cpu here"), torch.no_grad():
            found = layer(inputs)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("error")
            assert torch.equal(layer(inputs), found)
        assert layer.way() == DENSE
    finally:
        int8.operator_on.cache_clear()
