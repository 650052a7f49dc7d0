"""Specs come from an untrusted config.json, so every entry is checked."""

import json

import pytest
from torch import nn

from lpcompress.errors import CheckpointError, LpCompressError
from lpcompress.nn import FactoredLinear, build, from_factorization, spec_of

GOOD = {
    "low_rank": {"kind": "low_rank", "shape": [50, 8], "rank": 3, "padding_idx": None},
    "clustered": {"kind": "clustered", "shape": [50, 8], "ranks": [3, 2], "rows": [30, 20], "padding_idx": 1},
    "sparse": {
        "kind": "sparse",
        "shape": [50, 8],
        "width": 8,
        "values": 90,
        "masks": 40,
        "bits": 4,
        "padding_idx": None,
    },
}
BAD = [
    ("low_rank", {"kind": "magic"}, "'kind' must be one of low_rank"),
    ("low_rank", {"kind": None}, "'kind' must be"),
    ("low_rank", {"kind": ["low_rank"]}, "'kind' must be"),
    ("low_rank", {"kind": "low_rank_linear"}, "must replace Linear or Conv1D. Got Embedding"),
    ("low_rank", {"shape": [51, 8]}, r"'shape' must be .*\[50, 8\].*\[51, 8\]"),
    ("low_rank", {"shape": "50x8"}, "'shape' must be a list"),
    ("low_rank", {"rank": 0}, "'rank' must be an integer of at least 1"),
    ("low_rank", {"rank": "3"}, "'rank' must be"),
    ("low_rank", {"rank": True}, "'rank' must be"),
    ("low_rank", {"rank": 2**60}, "'rank' must be"),
    ("low_rank", {"padding_idx": 50}, r"'padding_idx' must be null or in 0\.\.49"),
    ("clustered", {"rows": [30, 21]}, "must add up to 50"),
    ("clustered", {"ranks": [3]}, "equal length"),
    ("clustered", {"ranks": [0, 3]}, "only the last rank may be 0"),
    ("clustered", {"ranks": None}, "'ranks' must be a list"),
    ("sparse", {"values": -1}, "'values' must be"),
    ("sparse", {"masks": 1.5}, "'masks' must be"),
    ("sparse", {"bits": 3}, "'bits' must be one of 0, 1, 2, 4, 8"),
    ("sparse", {"bits": True}, "'bits' must be one of"),
]


@pytest.mark.parametrize("kind", GOOD)
def test_a_spec_round_trips_through_json(kind):
    module = build(GOOD[kind], nn.Embedding(50, 8))
    assert json.loads(json.dumps(spec_of(module))) == GOOD[kind]


@pytest.mark.parametrize(("kind", "change", "message"), BAD)
def test_bad_specs_are_refused(kind, change, message):
    with pytest.raises(CheckpointError, match=message):
        build(GOOD[kind] | change, nn.Embedding(50, 8, device="meta"))


@pytest.mark.parametrize("spec", [None, [], "low_rank", {}])
def test_malformed_specs_are_refused(spec):
    with pytest.raises(CheckpointError, match="'kind' must be one of"):
        build(spec, nn.Embedding(50, 8))


def test_a_factorization_without_a_module_is_refused(random_factorization):
    with pytest.raises(LpCompressError, match="no module holds a SparseCoded in place of LayerNorm"):
        from_factorization(random_factorization("sparse", 50, 8), nn.LayerNorm(8))


def test_low_rank_in_place_of_a_linear_layer(random_factorization):
    assert isinstance(from_factorization(random_factorization("low_rank", 50, 8), nn.Linear(8, 50)), FactoredLinear)
