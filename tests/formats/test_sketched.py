"""The sketched layers against plain layers that hold their dense weight."""

import copy
import pickle

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lpcompress.checkpoints.quantizer import replace_layers
from lpcompress.compression.sketch_start import sketch_error, sketched_like
from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import (
    SketchedConv1d,
    SketchedConv2d,
    SketchedLinear,
    build,
    is_compressed_module,
    spec_of,
)
from lpcompress.surgery.finding import find_layers

LAYERS = {
    "linear": (lambda: SketchedLinear(12, 30, 3, 2, seed=5, dtype=torch.float64), (4, 7, 12)),
    "linear, no bias": (lambda: SketchedLinear(12, 30, 4, seed=5, bias=False, dtype=torch.float64), (4, 12)),
    "conv1d": (lambda: SketchedConv1d(6, 8, 3, 2, 2, seed=1, stride=2, padding=1, dtype=torch.float64), (4, 6, 11)),
    "conv2d": (
        lambda: SketchedConv2d(6, 8, (3, 2), 2, seed=1, dilation=(1, 2), padding="same", dtype=torch.float64),
        (2, 6, 7, 5),
    ),
    "conv2d, reflected": (
        lambda: SketchedConv2d(
            6, 8, 3, 1, 2, seed=1, padding=1, padding_mode="reflect", bias=False, dtype=torch.float64
        ),
        (2, 6, 7, 5),
    ),
}


@pytest.fixture(params=LAYERS)
def layer_and_input(request):
    make, shape = LAYERS[request.param]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return make(), inputs.requires_grad_()


def test_forward_and_backward_are_those_of_the_dense_layer(layer_and_input):
    layer, inputs = layer_and_input
    plain = layer.plain()
    assert type(plain) in layer.replaces and torch.equal(plain.weight, layer.dense())
    dense = layer.dense()  # autograd reaches the sketches through it by another path
    weights = dict(plain.named_parameters()) | {"weight": dense}
    expected = torch.func.functional_call(plain, weights, (inputs,))
    torch.testing.assert_close(layer(inputs), expected)
    direction = torch.randn(expected.shape, dtype=torch.float64)
    wanted = [inputs, *layer.parameters()]
    found = torch.autograd.grad(layer(inputs), wanted, direction)
    for one, other in zip(found, torch.autograd.grad(expected, wanted, direction), strict=True):
        torch.testing.assert_close(one, other)
    with torch.inference_mode():
        torch.testing.assert_close(layer(inputs), expected)


def test_gradcheck(layer_and_input):
    layer, inputs = layer_and_input
    inputs = inputs[:1].detach().requires_grad_()
    names = [name for name, _ in layer.named_parameters()]
    values = tuple(p.detach().clone().requires_grad_() for p in layer.parameters())

    def run(inputs, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (inputs,))

    assert torch.autograd.gradcheck(run, (inputs, *values), fast_mode=True)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("size", "repetitions"), [(1, 1), (4, 3)])
def test_parameter_counts_of_the_paper(size, repetitions):
    """Linear: l k (d1 + d2); convolution: l k h w (d1 + d2); nothing else is stored."""
    layers = {
        SketchedLinear(20, 50, size, repetitions, seed=0, bias=False): 70,
        SketchedConv2d(20, 50, (3, 5), size, repetitions, seed=0, bias=False): 15 * 70,
        SketchedConv1d(20, 50, 3, size, repetitions, seed=0, bias=False): 3 * 70,
    }
    for layer, unit in layers.items():
        assert count(layer) == size * repetitions * unit
        assert sum(tensor.numel() for tensor in layer.state_dict().values()) == count(layer)
    assert count(SketchedLinear(20, 50, size, repetitions, seed=0)) == size * repetitions * 70 + 50


def test_the_dense_weight_is_never_formed():
    """Neither forward nor backward creates a tensor of 60,000 numbers, and no signs are kept between them."""
    layer = SketchedLinear(300, 200, 8, seed=0)
    inputs = torch.randn(5, 300, requires_grad=True)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **kwargs or {})
            for each in result if isinstance(result, (tuple, list)) else [result]:
                largest = max(largest, each.numel() if isinstance(each, torch.Tensor) else 0)
            return result

    kept = []
    with Watch(), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        loss = layer(inputs).sum()
    with Watch():
        loss.backward()
    assert 8 * 300 <= largest < 8 * 300 + 64  # the signs of the inputs, in whole words
    assert sum(kept) <= count(layer) + 3 * inputs.numel()


def test_a_new_layer_starts_like_the_plain_one():
    torch.manual_seed(0)
    for plain, sketched in [
        (nn.Linear(200, 300), SketchedLinear(200, 300, 10, 3, seed=2)),
        (nn.Conv2d(30, 40, 3), SketchedConv2d(30, 40, 3, 4, 2, seed=2)),
    ]:
        assert sketched.dense().std().item() == pytest.approx(plain.weight.std().item(), rel=0.1)
        assert sketched.bias.abs().max() <= plain.weight[0].numel() ** -0.5
        again = copy.deepcopy(sketched)
        again.reset_parameters()
        assert all(torch.equal(a, b) for a, b in zip(sketched.parameters(), again.parameters(), strict=True))
    state = torch.get_rng_state()
    SketchedLinear(20, 30, 3, seed=0)
    assert torch.equal(state, torch.get_rng_state())


def test_a_spec_is_enough_to_rebuild(layer_and_input):
    layer, inputs = layer_and_input
    empty = build(spec_of(layer), layer.plain().to("meta"))
    assert is_compressed_module(empty) and all(p.is_meta for p in empty.parameters())
    again = empty.to_empty(device="cpu")
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(inputs), layer(inputs)) and spec_of(again) == spec_of(layer)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(inputs), layer(inputs))


def test_repr():
    text = repr(SketchedConv2d(6, 8, 3, 2, seed=1))
    assert text == "SketchedConv2d(kind=sketched_conv2d, shape=[8, 54], sketch_size=2, repetitions=1, seed=1)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [30, 13]}, r"'shape' must be .*\[30, 12\].*\[30, 13\]"),
        ({"sketch_size": 0}, "'sketch_size' must be an integer of at least 1"),
        ({"repetitions": None}, "'repetitions' must be"),
        ({"sketch_size": 2**40, "repetitions": 2**40}, "'sketch_size times repetitions' must be"),
        ({"seed": -1}, "'seed' must be an integer of at least 0"),
        ({"kind": "sketched_conv2d"}, "must replace Conv2d. Got Linear"),
    ],
)
def test_bad_specs_are_refused(change, message):
    good = {"kind": "sketched_linear", "shape": [30, 12], "sketch_size": 2, "repetitions": 1, "seed": 0}
    build(good, nn.Linear(12, 30))
    with pytest.raises(CheckpointError, match=message):
        build(good | change, nn.Linear(12, 30))


@pytest.mark.parametrize("repetitions", [1, 2])
@pytest.mark.parametrize("plain", [nn.Linear(200, 300), nn.Conv1d(60, 40, 5, bias=False), nn.Conv2d(60, 40, 3)])
def test_the_ratio_is_kept(plain, repetitions):
    module = sketched_like(plain, 0.6, repetitions=repetitions, seed=0)
    unit = module.repetitions * plain.weight[0, 0].numel() * sum(plain.weight.shape[:2])
    assert 0.4 * count(plain) - unit < count(module) <= 0.4 * count(plain)
    if plain.bias is not None:
        assert torch.equal(module.bias, plain.bias) and module.bias is not plain.bias


@torch.no_grad()
def test_sketches_of_a_dense_layer():
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 24, 3, stride=2).eval().half()
    nearest, unbiased = (
        sketched_like(plain, sketch_size=2, repetitions=2, seed=3, start=start) for start in ("nearest", "unbiased")
    )
    for module in (nearest, unbiased):
        assert module.stride == (2, 2) and module.codes.dtype == torch.float16 and not module.training
        difference = (module.dense().double() - plain.weight.double()).norm() / plain.weight.double().norm()
        assert sketch_error(module, plain) == pytest.approx(difference.item(), rel=1e-3)
    assert 0.6 < sketch_error(nearest, plain) < 1 < sketch_error(unbiased, plain)


@pytest.mark.parametrize(
    ("plain", "options", "message"),
    [
        (nn.Embedding(9, 4), {"ratio": 0.5}, r"sketching an embedding does not pay.*SVD's is 0\.30"),
        (nn.ReLU(), {"ratio": 0.5}, "must be linear or a convolution to be sketched. Got ReLU"),
        (nn.Conv2d(4, 4, 3, groups=2), {"ratio": 0.5}, r"must have groups=1\. Got 2"),
        (nn.Linear(9, 4), {}, "give exactly one of ratio and sketch_size"),
        (nn.Linear(9, 4), {"ratio": 0.5, "sketch_size": 1}, "give exactly one of ratio and sketch_size"),
        (nn.Linear(9, 4), {"ratio": 1.5}, r"share of bytes removed and must be between 0 and 1\. Got 1\.5"),
        (nn.Linear(9, 4), {"ratio": 0.9}, "the smallest factorization needs 52. Ask for a smaller ratio"),
        (nn.Linear(9, 4), {"sketch_size": 0}, "sketch_size must be an integer of at least 1. Got 0"),
        (nn.Linear(9, 4), {"sketch_size": 1, "repetitions": 0}, "repetitions must be an integer of at least 1. Got 0"),
        (nn.Linear(9, 4), {"sketch_size": 1, "start": "zero"}, "start must be one of nearest, unbiased. Got 'zero'"),
        (nn.Linear(9, 4), {"sketch_size": 1, "seed": -1}, "seed must be an integer from 0"),
    ],
)
def test_what_cannot_be_sketched(plain, options, message):
    with pytest.raises(LpCompressError, match=message):
        sketched_like(plain, **{"seed": 0} | options)


def test_subclasses_of_plain_layers_are_refused():
    class Odd(nn.Linear):
        pass

    with pytest.raises(LpCompressError, match=r"plain torch\.nn\.Linear\. Got Odd"):
        build({"kind": "sketched_linear", "shape": [9, 9], "sketch_size": 1, "repetitions": 1, "seed": 0}, Odd(9, 9))


@pytest.fixture
def sketched_model(tiny_model):
    """A classifier whose feed-forward layers and pooler are sketched."""
    model = tiny_model("bert", "classifier")
    names = [
        name for name, module in model.named_modules() if type(module) is nn.Linear and "attention.self" not in name
    ]
    replacements = {
        layer: (sketched_like(layer.module, sketch_size=2, seed=i), {"method": "sketch", "p": 2.0})
        for i, layer in enumerate(find_layers(model, names).values())
        if layer.name != "classifier"
    }
    replace_layers(model, replacements)
    return model


LOAD = """
import sys, torch, lpcompress, transformers
model = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
ids = torch.load(sys.argv[1] + "/ids.pt")
torch.save(model(ids).logits, sys.argv[1] + "/logits.pt")
model.save_pretrained(sys.argv[1] + "/again")
"""


def test_a_fresh_process_gives_the_same_logits(sketched_model, ids, tmp_path, fresh_python):
    with torch.no_grad():
        expected = sketched_model(ids).logits
    sketched_model.save_pretrained(tmp_path)
    torch.save(ids, tmp_path / "ids.pt")
    done = fresh_python(LOAD, tmp_path)
    assert done.returncode == 0, done.stderr
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    assert (tmp_path / "again" / "config.json").read_bytes() == (tmp_path / "config.json").read_bytes()
    first, again = (load_file(each / "model.safetensors") for each in (tmp_path, tmp_path / "again"))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)


def test_damage_is_found(sketched_model, ids):
    layer = sketched_model.bert.pooler.dense
    layer.basis.data[0, 0] = float("nan")
    with pytest.raises(CheckpointError, match=r"pooler\.basis holds values that are not finite"):
        layer.check("pooler")


def test_dequantize(sketched_model, ids):
    with torch.no_grad():
        expected = sketched_model(ids).logits
        sketched_model.dequantize()
        torch.testing.assert_close(sketched_model(ids).logits, expected)
    assert type(sketched_model.bert.pooler.dense) is nn.Linear
    assert not any(is_compressed_module(module) for module in sketched_model.modules())


def test_training_reaches_every_sketch(sketched_model, ids):
    sketched_model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sketched_model(ids, labels=torch.tensor([0, 1])).loss
    loss.backward()
    for layer in filter(is_compressed_module, sketched_model.modules()):
        assert layer.codes.grad.abs().max() > 0 and layer.basis.grad.abs().max() > 0


def test_compiles():
    layer = SketchedLinear(12, 30, 3, 2, seed=5)
    inputs = torch.randn(4, 12, requires_grad=True)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(inputs), layer(inputs))


@pytest.mark.parametrize("seed", [-1, 2**40 + 1, 2**5000, 0.5])
def test_a_seed_out_of_range_is_refused_by_the_constructor(seed):
    with pytest.raises(LpCompressError, match=r"seed must be an integer from 0 to 1099511627776. Got "):
        SketchedLinear(20, 30, 3, seed=seed)
    with pytest.raises(LpCompressError, match="seed must be an integer"):
        sketched_like(nn.Linear(20, 30), 0.5, seed=seed)
