"""Compressed embeddings against the plain layer with their own `.dense()`."""

import copy
import pickle

import pytest
import torch
from torch import nn

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import build, from_factorization, spec_of

ROWS, COLUMNS, PADDING = 203, 20, 7
KINDS = ("low_rank", "clustered", "sparse", "levels", "entries", "coded", "coded entries")
by_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=[None, PADDING], ids=["no padding", "padding"])
def pair(request, random_factorization):
    """A function kind -> (the module, the plain layer that it replaces)."""

    def make(kind):
        torch.manual_seed(0)
        original = nn.Embedding(ROWS, COLUMNS, padding_idx=request.param)
        factorization = random_factorization(kind, ROWS, COLUMNS)
        plain = copy.deepcopy(original)
        with torch.no_grad():
            plain.weight.copy_(factorization.dense())
            if request.param is not None:
                original.weight[request.param] = plain.weight[request.param] = torch.linspace(-1, 1, COLUMNS)
        return from_factorization(factorization, original), plain

    return make


@by_kind
@pytest.mark.parametrize("shape", [(), (0,), (1,), (11,), (3, 5), (2, 3, 4), (400,)])
def test_forward_is_a_lookup_in_dense(pair, kind, shape):
    module, plain = pair(kind)
    ids = torch.randint(ROWS, shape)
    ids.view(-1)[:1] = PADDING
    for given in (ids, ids.int()):
        torch.testing.assert_close(module(given), plain(given), atol=1e-5, rtol=1e-5)


@by_kind
def test_every_row(pair, kind):
    module, plain = pair(kind)
    torch.testing.assert_close(module(torch.arange(ROWS)), plain.weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(module.dense(), plain.weight, atol=1e-5, rtol=1e-5)


@by_kind
def test_the_padding_row_is_exact(pair, kind):
    module, plain = pair(kind)
    if plain.padding_idx is None:
        assert "padding_row" not in module.state_dict()
    else:
        assert torch.equal(module(torch.tensor(PADDING)), plain.weight[PADDING])
        assert torch.equal(module.dense()[PADDING], plain.weight[PADDING])


@by_kind
def test_stored_bytes_are_those_of_the_factorization(pair, random_factorization, kind):
    module, plain = pair(kind)
    padding = 0 if plain.padding_idx is None else COLUMNS * 4
    stored = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    assert stored == random_factorization(kind, ROWS, COLUMNS).n_bytes + padding
    held = [*module.parameters(), *module.buffers()]
    assert stored == sum(t.numel() * t.element_size() for t in held)


@by_kind
@pytest.mark.parametrize("project", [False, True], ids=["look up", "project"])
def test_gradients_are_those_of_the_dense_formula(pair, kind, project):
    module, _ = pair(kind)
    ids, hidden = torch.randint(ROWS, (4, 9)), torch.randn(4, 9, COLUMNS)
    ids[0, :2] = PADDING
    weight = torch.randn(4, 9, ROWS if project else COLUMNS)

    def gradients(output):
        module.zero_grad()
        (output * weight).sum().backward()
        return [p.grad.clone() for p in module.parameters()]

    ours = gradients(module(hidden, project=True) if project else module(ids))
    matrix = module.dense()
    theirs = gradients(hidden @ matrix.T if project else matrix[ids])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@by_kind
def test_no_gradient_reaches_the_codes_of_the_padding_row(pair, kind):
    module, plain = pair(kind)
    module(torch.full((3,), PADDING)).sum().backward()
    reached = any(p.grad.abs().sum() > 0 for p in module.parameters())
    assert reached == (plain.padding_idx is None)


@by_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(pair, kind, dtype):
    module, _ = pair(kind)
    integers = {n: t.clone() for n, t in module.state_dict().items() if not t.is_floating_point()}
    ids = torch.randint(ROWS, (4, 9))
    module.to(dtype)
    output = module(ids)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), module.dense()[ids].float(), atol=0.05, rtol=0.05)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in integers.items())


@by_kind
def test_copies_give_the_same(pair, kind):
    module, _ = pair(kind)
    ids = torch.randint(ROWS, (4, 9))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(ids), module(ids))
        assert spec_of(other) == spec_of(module)


@by_kind
def test_compile_without_graph_breaks(pair, kind):
    module, _ = pair(kind)
    ids = torch.randint(ROWS, (4, 9))
    torch.compiler.reset()  # else many modules exceed the recompilation limit of one function
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(ids), module(ids), atol=1e-5, rtol=1e-5)


@by_kind
@pytest.mark.parametrize("index", [-1, ROWS])
def test_ids_out_of_range_are_refused(pair, kind, index):
    module, _ = pair(kind)
    with pytest.raises(IndexError):
        module(torch.tensor([index]))


@by_kind
def test_spec_rebuilds_an_empty_module_on_meta(pair, kind):
    module, plain = pair(kind)
    empty = build(spec_of(module) | {"method": "x", "p": 1.0}, plain.to("meta"))
    ours, theirs = module.state_dict(), empty.state_dict()
    assert {k: (v.shape, v.dtype) for k, v in ours.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    assert all(t.is_meta for t in theirs.values())
    filled = build(spec_of(module), nn.Embedding(ROWS, COLUMNS))
    filled.load_state_dict(ours)
    assert torch.equal(filled(torch.arange(ROWS)), module(torch.arange(ROWS)))


@by_kind
@pytest.mark.parametrize("rows", [ROWS + 8, ROWS + 1, ROWS, 100, 5, 1])
def test_resize(pair, kind, rows):
    module, _ = pair(kind)
    before, mean = module.dense().detach().clone(), module.mean_row().detach()
    weight = module.get_parameter(module.weight_name)
    module.resize(rows)
    module.check("layer")
    kept = min(rows, ROWS)
    assert module.num_embeddings == rows and module.get_parameter(module.weight_name) is weight
    torch.testing.assert_close(module.dense()[:kept], before[:kept])
    torch.testing.assert_close(module(torch.arange(rows)), module.dense(), atol=1e-5, rtol=1e-5)
    empty = build(spec_of(module), nn.Embedding(rows, COLUMNS, device="meta"))
    assert {k: v.shape for k, v in empty.state_dict().items()} == {k: v.shape for k, v in module.state_dict().items()}
    if rows > ROWS and kind != "clustered":  # the mean lies in the span of all rows, not in the subspace of one cluster
        rounded = float(mean.abs().max()) / 50 if kind.startswith("coded") else 1e-5
        torch.testing.assert_close(module.dense()[-1], mean, atol=rounded, rtol=1e-4)
    if rows <= PADDING:
        assert module.padding_idx is None and "padding_row" not in module.state_dict()


def test_new_rows_of_a_cluster_are_the_nearest_to_the_mean(pair):
    module, _ = pair("clustered")
    mean, basis = module.mean_row().detach(), module.bases.detach().split(module.ranks)[1]  # of rank 7, the largest
    module.resize(ROWS + 2)
    assert module.members[1] + sum(module.members[::2]) == ROWS + 2
    gap = mean - module.dense()[-1].detach()
    torch.testing.assert_close(basis @ gap, torch.zeros(7), atol=1e-5, rtol=0)  # orthogonal to the subspace


def test_only_one_rank_zero_cluster(random_factorization):
    f = random_factorization("clustered", ROWS, COLUMNS)
    module = from_factorization(f, nn.Embedding(ROWS, COLUMNS))
    zero = f.labels == 2
    assert zero.any() and not module(torch.arange(ROWS))[zero].any()


DAMAGE = {
    "a value that is not finite": ("low_rank", "codes", lambda t: t.fill_(float("nan")), "not finite"),
    "an infinite padding row": ("sparse", "padding_row", lambda t: t.fill_(float("inf")), "not finite"),
    "offsets of another cluster": ("clustered", "offsets", lambda t: t.copy_(t.roll(1) + 1), "'offsets' must"),
    "offsets out of range": ("clustered", "offsets", lambda t: t.fill_(2**30), "'offsets' must"),
    "another table": ("clustered", "clusters", lambda t: t.zero_(), "'clusters' must"),
    "blocks that mark nothing": ("sparse", "blocks", lambda t: t.zero_(), "'blocks' must mark"),
    "blocks beyond the width": ("sparse", "blocks", lambda t: t.fill_(255), "beyond 20"),
    "an empty mask": ("sparse", "masks", lambda t: t[5].zero_(), "non-empty mask"),
    "masks beyond the width": ("sparse", "masks", lambda t: t.copy_(t.roll(1)), "beyond 20|must agree|must mark"),
    "value offsets": ("sparse", "offsets", lambda t: t[9, 0].add_(1), "value offsets"),
    "a bit of the stream": ("coded", "stream", lambda t: t[9].add_(1), "the coded stream is damaged"),
    "an empty stream": ("coded", "stream", lambda t: t.zero_(), "the coded stream is damaged"),
    "mask offsets": ("sparse", "offsets", lambda t: t[9, 1].add_(1), "mask offsets"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_check_finds_damage(random_factorization, damage):
    kind, leaf, spoil, message = DAMAGE[damage]
    module = from_factorization(random_factorization(kind, ROWS, COLUMNS), nn.Embedding(ROWS, COLUMNS, padding_idx=7))
    module.check("layer")
    with torch.no_grad():
        spoil(getattr(module, leaf))
    with pytest.raises(CheckpointError, match=rf"^layer.*({message})"):
        module.check("layer")


def test_check_finds_a_bit_beyond_the_width_in_the_last_mask(random_factorization):
    module = from_factorization(random_factorization("sparse", ROWS, COLUMNS), nn.Embedding(ROWS, COLUMNS))
    module.check("layer")
    row = next(r for r in range(ROWS) if module.blocks[r, 0] & 4)  # uses block 2: coordinates 16 to 19
    last = int(module.offsets[row + 1, 1]) - 1
    count = bin(module.masks[last]).count("1")
    module.masks[last] = sum(1 << (7 - bit) for bit in range(count))  # the same number of bits, beyond the width
    with pytest.raises(CheckpointError, match="'masks' must not point beyond 20"):
        module.check("layer")


class Shifted(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) + 3


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Shifted(ROWS, COLUMNS), "overrides forward"),
        (nn.Embedding(ROWS, COLUMNS, max_norm=1.0), "max_norm"),
        (nn.Embedding(ROWS, COLUMNS, sparse=True), "sparse=True"),
    ],
)
def test_layers_that_do_more_are_refused(random_factorization, layer, message):
    with pytest.raises(LpCompressError, match=message):
        from_factorization(random_factorization("sparse", ROWS, COLUMNS), layer)
