"""One class for each form in each role, under the public names and the kinds stored in checkpoints."""

import pickle

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

import lpcompress.nn
from lpcompress.formats import FORMATS
from lpcompress.nn import FactoredMatrix, noun_of, role_of
from lpcompress.nn.registry import ROLES, modules

CLASSES = {  # kind in config.json, which must never change -> public name
    "low_rank": "FactoredEmbedding",
    "clustered": "ClusteredEmbedding",
    "sparse": "SparseCodedEmbedding",
    "low_rank_linear": "FactoredLinear",
    "clustered_linear": "ClusteredLinear",
    "sparse_linear": "SparseCodedLinear",
    "sketched_linear": "SketchedLinear",
    "low_rank_conv": "FactoredConvolution",
    "clustered_conv": "ClusteredConvolution",
    "sparse_conv": "SparseCodedConvolution",
    "sketched_conv1d": "SketchedConv1d",
    "sketched_conv2d": "SketchedConv2d",
    "low_rank_einsum": "FactoredBareWeight",
    "clustered_einsum": "ClusteredBareWeight",
    "sparse_einsum": "SparseCodedBareWeight",
    "sketched_einsum": "SketchedBareWeight",
    "coded": "CodedEmbedding",
    "coded_linear": "CodedLinear",
    "coded_conv": "CodedConvolution",
    "coded_einsum": "CodedBareWeight",
}


def test_kinds_and_names():
    assert {kind: module.__name__ for kind, module in modules().items()} == CLASSES
    assert set(CLASSES.values()) <= set(lpcompress.nn.__all__) and set(lpcompress.nn.__all__) <= set(dir(lpcompress.nn))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_class_is_a_form_in_a_role(kind):
    module = modules()[kind]
    assert module.kind == kind and module is getattr(lpcompress.nn, CLASSES[kind])
    assert pickle.loads(pickle.dumps(module)) is module
    assert sum(issubclass(module, form) for form in FORMATS.values()) == 1
    assert sum(issubclass(module, role) for role in ROLES) == 1
    assert module.__doc__ and module.__doc__ not in {each.__doc__ for each in (*FORMATS.values(), *ROLES)}


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'SketchedEmbedding'"):
        lpcompress.nn.SketchedEmbedding  # noqa: B018
    with pytest.raises(ImportError):
        from lpcompress.nn import PaintedLinear  # noqa: F401


@pytest.mark.parametrize(
    ("layer", "word", "noun"),
    [
        (nn.Embedding(3, 2), "embedding", "embedding"),
        (nn.Linear(3, 2), "linear", "linear layer"),
        (Conv1D(3, 2), "linear", "linear layer"),
        (nn.Conv1d(3, 2, 1), "conv", "convolution"),
    ],
)
def test_words_of_the_roles(layer, word, noun):
    role = role_of(layer)
    assert (role.word, role.noun, noun_of(word)) == (word, noun, noun)
    assert issubclass(role, FactoredMatrix) and role_of(nn.LayerNorm(3)) is None and noun_of("gate") == "gate"


PLAIN = (nn.Embedding(6, 4), nn.Linear(4, 6), nn.Conv1d(2, 6, 2), nn.Conv2d(2, 6, (1, 2)))
SIZES = {"rank": 2, "ranks": [2], "rows": [6], "width": None, "values": 0, "masks": 0, "bits": 0, "stream": 0}
SIZES |= {"sketch_size": 1, "repetitions": 1, "seed": 0, "padding_idx": None}


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if not kind.endswith("_einsum")])
def test_all_attributes_of_the_plain_layer_exist(kind):
    """The constructors of the plain layers run, so that none of their attributes is missing."""
    plain = next(each for each in PLAIN if isinstance(each, modules()[kind].replaces))
    spec = {"kind": kind, "shape": list(role_of(plain).matrix_of(plain).shape)} | SIZES
    module = lpcompress.nn.build(spec, plain)
    assert vars(plain).keys() <= vars(module).keys()
    assert not any(parameter.is_meta for parameter in module.parameters())
