"""The JSON document, which scripts rely on."""

import json

from lpcompress.config.plan import Plan

SHARED = {"model", "baseline", "settings", "versions", "date", "caption", "gates"}
OWN = {"average", "baseline_average", "average_drop", "average_drop_se", "average_recovery", "formula", "tasks"}
OWN |= {"without_wnli"}


def test_the_numbers_of_one_method_are_at_the_top_level(make, results):
    document = make(results, max_drop=0.9).document()
    assert set(document) == SHARED | OWN
    assert document["settings"]["compression"] == Plan(method="svd", p=1.0).model_dump(mode="json")
    assert document["gates"]["failures"] == ["rte failed: no memory", "mrpc: drop 1.00 exceeds 0.9"]
    assert json.loads(json.dumps(document)) == document


def test_several_methods_share_the_top_level_and_nothing_is_repeated(make, result, results):
    methods = {"svd": results, "lp": results | {"mrpc": result(70.0, 81.0)}}
    evaluation = make(methods=methods, max_drop={"mrpc": 2.0})
    document = evaluation.document()
    assert set(document) == SHARED | {"methods"}
    assert list(document["methods"]) == ["svd", "lp"]
    for name, each in document["methods"].items():
        assert set(each) == OWN | {"gates", "settings"}
        assert each["tasks"]["mrpc"]["score"] == methods[name]["mrpc"].score
        assert set(each["settings"]) == {"compression"}
    assert document["methods"]["svd"]["gates"]["failures"] == ["rte failed: no memory"]
    assert document["gates"]["passed"] is False
    assert document["gates"]["failures"] == evaluation.failures
    assert "lp mrpc: drop 11.00 exceeds 2" in evaluation.failures


def test_an_evaluation_has_failed_if_a_task_has(make, result, results):
    assert make(results).failed
    assert not make({"mrpc": result(80.0, 81.0)}).failed
    assert make(methods={"svd": {"mrpc": result(80.0, 81.0)}, "lp": {"mrpc": results["rte"]}}).failed


def test_without_gates_and_compression_both_are_none(make, result):
    document = make({"mrpc": result(80.0, None)}, baseline=None, plan=None).document()
    assert (document["gates"], document["settings"]["compression"], document["baseline"]) == (None, None, None)
