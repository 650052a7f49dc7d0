"""A new stored form is one file and one row: no other code is needed."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

import lpcompress.nn
from lpcompress.errors import CheckpointError
from lpcompress.formats import FORMATS
from lpcompress.nn import FROM_HEADS, INTO_HEADS, BareWeight, build, from_factorization, role_of, spec_of

FILE = '''
"""Every second column: the others are zero."""

from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional

from lpcompress.formats.base import Factorization
from lpcompress.formats.module import FactoredMatrix


@dataclass(frozen=True)
class Halved(Factorization):
    """The even columns."""

    even: torch.Tensor
    columns: int

    @property
    def shape(self):
        return self.even.shape[0], self.columns

    @property
    def ranks(self):
        return [self.even.shape[1]]

    @property
    def rows(self):
        return [self.even.shape[0]]

    def dense(self):
        out = self.even.new_zeros(self.shape)
        out[:, ::2] = self.even
        return out

    def scale_rows(self, factors):
        return replace(self, even=self.even * factors.unsqueeze(1))


class HalvedMatrix(FactoredMatrix):
    """Stored as `weight` (n, d / 2)."""

    prefix = "Halved"
    holds = Halved
    fields = {"even": "codes"}
    right = None

    def allocate(self, rows, columns, **where):
        self.codes = nn.Parameter(torch.zeros(rows, -(-columns // 2), **where))

    @classmethod
    def sizes_in(cls, spec):
        return {}

    @classmethod
    def sizes_of(cls, factorization):
        return {}

    def factorization(self):
        return Halved(self.codes, self.matrix_shape[1])

    def expand(self, coordinates, bias=None):
        return functional.linear(coordinates[..., ::2], self.codes, bias)

    def look_up(self, ids):
        return Halved(self.codes[ids], self.matrix_shape[1]).dense()

    def shrink(self, rows):
        self.codes.data = self.codes.data[:rows].clone()

    def grow(self, extra, mean_row):
        self.codes.data = torch.cat([self.codes.data, mean_row[::2].to(self.codes.dtype).expand(extra, -1)])


def halve(matrix, budget, settings, whitener=None):
    return Halved(matrix[:, ::2].contiguous(), matrix.shape[1])
'''
ROLES = {  # kind -> a plain layer and its inputs
    "halved": (lambda: nn.Embedding(50, 8, padding_idx=3), lambda: torch.arange(50)),
    "halved_linear": (lambda: nn.Linear(9, 6), lambda: torch.randn(2, 3, 9)),
    "halved_linear, transposed": (lambda: Conv1D(6, 8), lambda: torch.randn(2, 8)),
    "halved_conv": (lambda: nn.Conv2d(3, 6, 3, padding=1), lambda: torch.randn(2, 3, 5, 5)),
    "halved_einsum": (
        lambda: BareWeight(nn.Parameter(torch.randn(8, 2, 4)), INTO_HEADS),
        lambda: torch.randn(3, 2, 8),
    ),
    "halved_einsum, back": (
        lambda: BareWeight(nn.Parameter(torch.randn(8, 2, 4)), FROM_HEADS),
        lambda: torch.randn(3, 2, 2, 4),
    ),
}
NAMES = {"halved": "HalvedEmbedding", "halved_linear": "HalvedLinear", "halved_conv": "HalvedConvolution"}


@pytest.fixture
def file(tmp_path):
    """Directory that contains the file of the form."""
    (tmp_path / "halved.py").write_text(FILE)
    return tmp_path


@pytest.fixture
def halved(file, monkeypatch):
    """The module of the form, with its row in the table."""
    monkeypatch.syspath_prepend(file)
    import halved

    monkeypatch.setitem(FORMATS, "halved", halved.HalvedMatrix)
    return halved


@pytest.fixture(params=ROLES)
def case(request, halved):
    """The kind, a plain layer whose odd columns are zero, the module that replaces it, and inputs."""
    torch.manual_seed(0)
    plain, inputs = (make() for make in ROLES[request.param])
    matrix = role_of(plain).matrix_of(plain)
    with torch.no_grad():
        matrix[:, 1::2] = 0
    module = from_factorization(halved.halve(matrix.detach(), None, None), plain)
    return request.param.partition(",")[0], plain, module, inputs


def outputs(module, inputs):
    equation = getattr(module, "equation", None)
    if equation is None:
        return module(inputs)
    return torch.einsum(equation, inputs, module.weight if isinstance(module, BareWeight) else module)


def test_every_role_exists_and_computes_what_the_plain_layer_does(case):
    kind, plain, module, inputs = case
    assert spec_of(module)["kind"] == kind and role_of(module) is role_of(plain)
    assert torch.equal(module.dense(), plain.weight)
    torch.testing.assert_close(outputs(module, inputs), outputs(plain, inputs))
    torch.testing.assert_close(outputs(module.plain(), inputs), outputs(plain, inputs))
    module.check("layer")


def test_specs_copies_and_pickles(case):
    _, plain, module, inputs = case
    empty = build(spec_of(module), plain.to("meta"))
    assert all(tensor.is_meta for tensor in empty.state_dict().values())
    again = empty.to_empty(device="cpu")
    again.load_state_dict(module.state_dict())
    for other in (again, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(other) is type(module) and spec_of(other) == spec_of(module)
        assert torch.equal(outputs(other, inputs), outputs(module, inputs))


def test_its_classes_are_named(case):
    kind, _, module, _ = case
    name = NAMES.get(kind, "HalvedBareWeight")
    assert type(module) is getattr(lpcompress.nn, name)
    assert (type(module).__module__, type(module).__qualname__) == ("lpcompress.nn", name)
    assert "Stored as `weight` (n, d / 2)." in type(module).__doc__ and role_of(module).__name__ in type(module).__doc__


def test_without_its_row_it_is_unknown(case, monkeypatch):
    _, plain, module, _ = case
    spec = spec_of(module)
    monkeypatch.delitem(FORMATS, "halved")
    with pytest.raises(CheckpointError, match="'kind' must be one of low_rank, "):
        build(spec, plain)
    with pytest.raises(AttributeError):
        getattr(lpcompress.nn, type(module).__name__)


def test_rows_are_appended_and_dropped(halved):
    plain = nn.Embedding(50, 8)
    module = from_factorization(halved.halve(plain.weight.detach(), None, None), plain)
    before = module.dense().detach()
    module.resize(60)
    torch.testing.assert_close(module(torch.arange(60))[50:], before.mean(0).expand(10, -1))
    module.resize(20)
    assert torch.equal(module.dense(), before[:20])


SCRIPT = """
import sys
import halved
from lpcompress.formats import FORMATS
from lpcompress.methods import METHODS, Method
FORMATS["halved"] = halved.HalvedMatrix
METHODS["halve"] = Method("halve", "every second column", fit="halved:halve", honours_p=False)

import torch, transformers, lpcompress
ids = torch.arange(12).view(2, 6)
for directory, loader in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
    AutoModel = getattr(transformers, loader)
    model = AutoModel.from_pretrained(directory)
    dense, embedding = model(ids)[0], model.get_input_embeddings().weight.detach().clone()
    report = lpcompress.compress(model, method="halve", ratio=0.4, layers=["all"], row_weights="uniform")
    assert len(report.layers) > 8 and all(0.4 <= layer.removed <= 0.5 for layer in report.layers)
    model.save_pretrained(directory + "/small")
    again = AutoModel.from_pretrained(directory + "/small")
    assert torch.equal(again(ids)[0], model(ids)[0]) and not torch.equal(again(ids)[0], dense)

    again.resize_token_embeddings(210)
    again.save_pretrained(directory + "/larger")
    larger = AutoModel.from_pretrained(directory + "/larger")
    assert larger.get_input_embeddings().num_embeddings == 210
    assert torch.equal(larger(ids)[0], again(ids)[0])

    output = model(ids)[0]
    model.dequantize()
    torch.testing.assert_close(model(ids)[0], output)
    assert type(model.get_input_embeddings()) is torch.nn.Embedding
    kept = model.get_input_embeddings().weight[4:]
    assert torch.equal(kept[:, ::2], embedding[4:, ::2]) and not kept[:, 1::2].any()
    print(loader)
"""


MODELS = {
    "bert": ("classifier", "AutoModelForSequenceClassification"),
    "roberta": ("lm", "AutoModelForMaskedLM"),  # with a head that is tied to the embedding
    "xlnet": ("base", "AutoModel"),  # with bare weights
}


def test_checkpoints(file, tiny_model, fresh_python):
    arguments = []
    for architecture, (head, loader) in MODELS.items():
        tiny_model(architecture, head).save_pretrained(file / architecture)
        arguments += [file / architecture, loader]
    done = fresh_python(f"import sys; sys.path.insert(0, {str(file)!r})\n{SCRIPT}", *arguments)
    assert done.stdout.split() == [loader for _, loader in MODELS.values()], done.stderr


def test_a_matrix_of_odd_width(halved):
    matrix = torch.arange(15.0).view(3, 5)
    fitted = halved.halve(matrix, None, None)
    assert torch.equal(fitted.dense(), matrix * torch.tensor([1.0, 0, 1, 0, 1])) and fitted.n_parameters == 9
    module = from_factorization(fitted, nn.Linear(5, 3))
    hidden = torch.randn(2, 5)
    torch.testing.assert_close(module(hidden), functional.linear(hidden, fitted.dense(), module.bias))
