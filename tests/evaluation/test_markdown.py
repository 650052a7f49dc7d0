"""GLUE results as Markdown."""

from markdown_it import MarkdownIt

from lpcompress.evaluation.markdown import as_markdown
from lpcompress.evaluation.results import FAILED, TaskResult


def test_the_page_of_a_run(make, results):
    text = as_markdown(make({key: results[key] for key in ("mrpc", "qqp", "rte")}, max_drop={"mrpc": 0.5}))
    assert text == (
        "### GLUE, without fine-tuning: m, svd, p=1, 28% removed\n"
        "\n"
        "**A gate failed:**\n"
        "\n"
        "- rte failed: no memory\n"
        "- mrpc: drop 1.00 exceeds 0.5\n"
        "\n"
        "| task | n | base | compressed | drop ± se | recovery |\n"
        "| :-- | --: | --: | --: | --: | --: |\n"
        "| mrpc | 408 | 81.00 | 80.00 | 1.00 ± 0.12 | 98.8% |\n"
        "| qqp |  | - | not available |  |  |\n"
        "| rte |  | - | failed |  |  |\n"
        "| **average** |  | **81.00** | **80.00** | **1.00 ± 0.12** | **98.8%** |\n"
        "\n"
        "- scores in points (0 to 100); drop = base - compressed, se by the paired bootstrap\n"
        "- average over 1 of 9 tasks = (MRPC (accuracy + F1)/2) / 1\n"
        "- qqp not available: no model is named for qqp\n"
        "- rte failed: no memory\n"
    )


def test_without_gates_there_is_no_verdict(make, result):
    assert "gate" not in as_markdown(make({"mrpc": result(80.0, 81.0)}))
    assert "**Every gate passed.**" in as_markdown(make({"mrpc": result(80.0, 81.0)}, max_drop=2.0))


def test_no_text_breaks_the_table(make, results, result):
    page = as_markdown(
        make(methods={"svd": results, "lp": results | {"rte": TaskResult(FAILED, reason="<b>|*x*\nno memory")}})
    )
    html = MarkdownIt().enable("table").render(page)
    assert html.count("<tr>") == 1 + len(results) + 2  # headings, tasks, averages
    assert "<b>" not in html
    assert "rte failed: &lt;b&gt;|*x*<br>no memory" in html.replace("&lt;br&gt;", "<br>")
