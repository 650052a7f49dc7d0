"""Decoders of stored forms on damaged specs and tensors: a clear error, or a matrix of the right shape.

    FUZZ_EXAMPLES=20000 pytest tests/formats/test_fuzz.py      # some hours on one core

runs longer than the few seconds of `make check`.
"""

import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lpcompress.errors import LpCompressError
from lpcompress.nn import build, from_factorization, spec_of
from lpcompress.nn.registry import modules

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "25"))
DEADLINE = 5000 if EXAMPLES < 1000 else 60_000  # milliseconds; long runs share the machine
ROWS, COLUMNS = 24, 12
PLAIN = {
    "embedding": lambda **where: nn.Embedding(ROWS, COLUMNS, padding_idx=1, **where),
    "linear": lambda **where: nn.Linear(COLUMNS, ROWS, **where),
    "conv": lambda **where: nn.Conv1d(COLUMNS // 3, ROWS, 3, **where),
}
INPUTS = {
    "embedding": torch.arange(ROWS).view(2, -1),
    "linear": torch.ones(2, COLUMNS),
    "conv": torch.ones(2, COLUMNS // 3, 5),
}
SKETCHES = {"linear": {"kind": "sketched_linear"}, "conv": {"kind": "sketched_conv1d"}}
SKETCHED = {"shape": [ROWS, COLUMNS], "sketch_size": 2, "repetitions": 2, "seed": 3}
CASES = [(form, role) for form in ("low_rank", "clustered", "sparse", "levels", "entries", "coded") for role in PLAIN]
CASES += [("sketched", role) for role in SKETCHES]

whole = st.integers(-3, 40) | st.sampled_from([2**31 - 1, 2**40, 2**62, -(2**63), 10**30])
scalars = st.none() | st.booleans() | whole | st.floats() | st.text(max_size=3) | st.sampled_from(sorted(modules()))
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2)
)


@pytest.fixture(scope="module")
def stored():
    """A function (form, role) -> spec and tensors of a sound layer."""
    from conftest import ENCODERS

    def make(form, role):
        like = PLAIN[role]()
        if form == "sketched":
            layer = build(SKETCHED | SKETCHES[role], like)
        else:
            layer = from_factorization(ENCODERS[form](ROWS, COLUMNS, torch.Generator().manual_seed(0)), like)
        return spec_of(layer), {name: tensor.clone() for name, tensor in layer.state_dict().items()}

    return make


def damage_spec(data, spec):
    key = data.draw(st.sampled_from(sorted(spec)), "key")
    spec = dict(spec)
    if data.draw(st.booleans(), "keep the key"):
        spec[key] = data.draw(values, "value")
    else:
        del spec[key]
    return spec


def damage_tensor(data, tensors):
    name = data.draw(st.sampled_from(sorted(tensors)), "tensor")
    tensor = tensors[name].clone()
    flat = tensor.view(-1).view(torch.uint8)
    match data.draw(st.sampled_from(["bits", "bytes", "swap", "cut", "fill"]), "damage") if flat.numel() else "cut":
        case "bits":
            for place in data.draw(st.lists(st.integers(0, 8 * flat.numel() - 1), min_size=1, max_size=8), "bits"):
                flat[place // 8] ^= 1 << place % 8
        case "bytes":
            length = min(flat.numel(), 16)
            start = data.draw(st.integers(0, flat.numel() - length), "start")
            flat[start : start + length] = torch.tensor(list(data.draw(st.binary(min_size=length, max_size=length))))
        case "swap":
            one, other = (data.draw(st.integers(0, tensor.numel() - 1)) for _ in range(2))
            entries = tensor.view(-1)
            entries[one], entries[other] = entries[other].clone(), entries[one].clone()
        case "cut":
            tensor = tensor[: data.draw(st.integers(0, len(tensor)), "length")].clone()
        case "fill":
            flat[:] = data.draw(st.integers(0, 255), "byte")
    return tensors | {name: tensor}


def decode(spec, tensors, role):
    """Rebuild a layer as `from_pretrained` does; return its matrix and outputs, or None if the shapes differ."""
    empty = build(spec, PLAIN[role](device="meta"))  # before anything is allocated: sizes may be huge
    wanted = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    if wanted != {name: tensor.shape for name, tensor in tensors.items()}:
        return None  # which transformers or `require_loaded` reports
    layer = build(spec, PLAIN[role]())
    layer.load_state_dict(tensors)
    layer.check("layer")
    with torch.no_grad():
        return layer.dense(), layer(INPUTS[role])


@pytest.mark.parametrize(("form", "role"), CASES, ids=["-".join(case) for case in CASES])
@settings(max_examples=EXAMPLES, deadline=DEADLINE, derandomize=EXAMPLES < 1000, database=None)
@given(data=st.data())
def test_damage_is_refused_or_gives_a_matrix_of_the_right_shape(stored, form, role, data):
    spec, tensors = stored(form, role)
    for _ in range(data.draw(st.integers(1, 2), "damages")):
        if data.draw(st.booleans(), "of the spec"):
            spec = damage_spec(data, spec)
        else:
            tensors = damage_tensor(data, tensors)
    try:
        decoded = decode(spec, tensors, role)
    except LpCompressError as error:
        assert str(error).strip() and "\n" not in str(error)
        return
    if decoded is not None:
        plain = PLAIN[role]()
        assert decoded[0].shape == plain.weight.shape
        assert decoded[1].shape == plain(INPUTS[role]).shape


@pytest.mark.parametrize(("form", "role"), CASES, ids=["-".join(case) for case in CASES])
def test_sound_layers_are_decoded(stored, form, role):
    assert decode(*stored(form, role), role) is not None


def test_every_form_is_damaged():
    from lpcompress.formats import FORMATS

    assert {form if form in FORMATS else "sparse" for form, _ in CASES} == FORMATS.keys()
