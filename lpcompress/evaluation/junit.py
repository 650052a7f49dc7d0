"""GLUE results as JUnit XML, which CI servers show as tests."""

import re
from collections.abc import Iterator
from xml.etree import ElementTree as Xml

from lpcompress.evaluation.evaluation import CAPTION, Evaluation, Scores
from lpcompress.evaluation.gates import AVERAGE, Check, Gates
from lpcompress.evaluation.grid import Line
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, TaskResult

ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
COUNTED = {"failures": "failure", "errors": "error", "skipped": "skipped"}  # attribute of a suite -> element of a case


def junit_xml(evaluation: Evaluation) -> str:
    """Return the results as JUnit XML: a suite for each method, with a test case for each task and each gate.

    A task that could not be scored is an error, one without a model is skipped, and a gate that fails is a failure.
    """
    root = Xml.Element("testsuites", name="lpcompress eval-glue")
    for name, scores in evaluation.methods.items():
        suite = Xml.SubElement(root, "testsuite", name=f"GLUE {name}".strip(), timestamp=evaluation.date)
        facts = {"model": evaluation.model, "baseline": evaluation.baseline or "", "protocol": CAPTION}
        properties = Xml.SubElement(suite, "properties")
        for key, value in (facts | dict(evaluation.versions)).items():
            Xml.SubElement(properties, "property", name=key, value=_legal(value))
        suite.extend(_cases(scores, Gates.of(evaluation.scoring)))
        _count(suite)
    _count(root)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _cases(scores: Scores, gates: Gates) -> Iterator[Xml.Element]:
    checks = gates.checks(scores.tasks, scores.mean)
    for key, result in scores.tasks.items():
        yield _scored(key, result)
        yield from (_gated(check, result) for check in checks if check.key == key)
    yield from (_gated(check, None) for check in checks if check.key == AVERAGE)


def _scored(key: str, result: TaskResult) -> Xml.Element:
    """Return the test case that says whether a task could be scored."""
    case = Xml.Element("testcase", classname=f"glue.{key}", name="scored", time=f"{result.seconds:.3f}")
    if result.status in (FAILED, NOT_AVAILABLE):
        kind = "error" if result.status == FAILED else "skipped"
        Xml.SubElement(case, kind, message=_legal(result.reason or result.status))
        return case
    line = Line.of_task(result)
    base = f", base {line.baseline:.2f}" if line.baseline is not None else ""
    drop = f", drop {line.drop_cell}" if line.drop is not None else ""
    Xml.SubElement(case, "system-out").text = f"score {line.score_cell}{base}{drop}, {result.n:,} rows"
    return case


def _gated(check: Check, result: TaskResult | None) -> Xml.Element:
    """Return the test case of a gate."""
    case = Xml.Element("testcase", classname=f"glue.{check.key}", name=f"{check.gate} {check.limit:g}", time="0")
    if not check.passed:
        error = f" (standard error {result.se:.2f})" if result and result.se is not None else ""
        Xml.SubElement(case, "failure", message=check.failure).text = check.failure + error
    return case


def _count(element: Xml.Element) -> None:
    """Set the totals of a suite, or of all suites."""
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for name, kind in COUNTED.items():
        element.set(name, str(sum(case.find(kind) is not None for case in cases)))
    element.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _legal(text: str) -> str:
    """Return a text without the characters that XML cannot hold; names of models may contain them."""
    return ILLEGAL.sub("\ufffd", text)
