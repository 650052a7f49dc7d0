"""GLUE results as JUnit XML."""

from xml.etree import ElementTree as Xml

from lpcompress.evaluation.junit import junit_xml
from lpcompress.evaluation.results import NOT_AVAILABLE, TaskResult


def cases(xml):
    """Test case (class, name) -> the kind of its outcome."""
    found = {}
    for case in Xml.fromstring(xml).iter("testcase"):
        kinds = [child.tag for child in case if child.tag != "system-out"]
        found[case.get("classname").removeprefix("glue."), case.get("name")] = kinds[0] if kinds else "passed"
    return found


def test_there_is_a_case_for_each_task_and_gate(make, results):
    xml = junit_xml(make(results, max_drop={"": 0.75, "mnli": 2}, min_recovery={"average": 0.5}))
    assert cases(xml) == {
        ("mrpc", "scored"): "passed",
        ("mrpc", "max_drop 0.75"): "failure",
        ("mnli", "scored"): "passed",
        ("mnli", "max_drop 2"): "passed",
        ("wnli", "scored"): "passed",
        ("wnli", "max_drop 0.75"): "passed",
        ("qqp", "scored"): "skipped",
        ("rte", "scored"): "error",
        ("ax", "scored"): "passed",
        ("average", "max_drop 0.75"): "passed",
        ("average", "min_recovery 0.5"): "passed",
    }
    root = Xml.fromstring(xml)
    [suite] = root
    for element in (root, suite):
        totals = {name: element.get(name) for name in ("tests", "failures", "errors", "skipped")}
        assert totals == {"tests": "11", "failures": "1", "errors": "1", "skipped": "1"}
    [failure] = root.iter("failure")
    assert failure.get("message") == "mrpc: drop 1.00 exceeds 0.75"
    assert failure.text == "mrpc: drop 1.00 exceeds 0.75 (standard error 0.12)"
    assert "score 80.00, base 81.00, drop 1.00 ± 0.12, 408 rows" in xml


def test_each_method_is_a_suite(make, results):
    root = Xml.fromstring(junit_xml(make(methods={"svd": results, "lp": results})))
    assert [suite.get("name") for suite in root] == ["GLUE svd", "GLUE lp"]
    assert root.get("tests") == "12"


def test_models_without_a_baseline_are_only_scored(make, result):
    xml = junit_xml(make({"mrpc": result(80.0, None)}, baseline=None, plan=None))
    assert cases(xml) == {("mrpc", "scored"): "passed"}
    assert "score 80.00, 408 rows" in xml


def test_no_text_breaks_the_file(make):
    odd = 'a\x00b\x1b[31m<&>"\ud800'
    xml = junit_xml(make({"rte": TaskResult(NOT_AVAILABLE, odd, reason=odd)}))
    [skipped] = Xml.fromstring(xml.encode()).iter("skipped")
    assert skipped.get("message") == 'a\ufffdb\ufffd[31m<&>"\ufffd'
