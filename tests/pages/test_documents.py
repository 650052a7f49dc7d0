"""Every kind of result becomes sections; a damaged one becomes a sentence."""

import json

import pytest

from lpcompress.errors import LpCompressError
from lpcompress.pages import rendering
from lpcompress.pages.documents import KINDS, read_sections

HEADLINES = {
    "inspect": [
        "small is a BertModel of 567.9 kB.",
        "./tiny takes 580.8 kB instead of 1.0 MB: 43% smaller.",
    ],
    "glue": [
        "sparse, the best of 2 methods, loses 0.00 ± 0.00 points on average over 4 tasks (69.24 before, 69.24 after)."
    ],
    "compress": [
        "./tiny takes 580.8 kB instead of 1.0 MB: 43% smaller.",
        "The compressed model loses 6.24 ± 2.08 points on average over 4 tasks (69.24 before, 63.00 after).",
    ],
    "finetune": ["org/small has 66.00 points on rte after fine-tuning, 6.00 ± 1.50 more than before."],
    "sweep": ["org/small in 46.0 MB instead of 90.0 MB loses 0.40 ± 0.50 points (coded)."],
}
COMMANDS = {
    "inspect": ["lpcompress inspect small", "lpcompress compress ./tiny --layers all --method svd --ratio 0.5"],
    "glue": [
        "lpcompress eval-glue 'org/distilbert-{task}' --tasks cola,mrpc,stsb,rte,wnli --data glue --limit 250"
        " --ratio 0.6 --methods sparse,svd --max-drop 3"
    ],
    "finetune": ["lpcompress finetune org/small --task rte --out ./tuned --distill org/teacher --epochs 3"],
    "sweep": [
        "lpcompress sweep org/small --ratios 0.9,0.95,0.99 --methods coded,svd --tasks rte --layers embedding"
        " --layers ffn --out sweep"
    ],
}


@pytest.mark.parametrize("kind", HEADLINES)
def test_each_kind_has_its_headlines(documents, write, kind):
    sections = read_sections([write(documents[kind])])
    assert [section.headline for section in sections] == HEADLINES[kind]
    for page in (rendering.as_html(sections), rendering.as_markdown(sections)):
        assert all(section.headline.split(":")[0] in page.replace("\\_", "_") for section in sections)


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_command_that_made_it_is_given_if_the_document_tells(documents, write, kind):
    found = [section.command for section in read_sections([write(documents[kind])])]
    assert [sorted(each.split(" --")) for each in found] == [sorted(each.split(" --")) for each in COMMANDS[kind]]


def test_the_command_names_the_revision(documents, write):
    document = documents["compress"] | {"model": "org/x", "origin": {"revision": "v1"}, "glue": None}
    [section] = read_sections([write(document)])
    assert section.command == "lpcompress compress org/x --revision v1 --ratio 0.5"


def test_a_document_is_of_one_kind(documents):
    for document in documents.values():
        assert sum(kind.keys <= document.keys() for kind in KINDS) == 1


def test_the_gates_and_failures_stand_at_the_top(documents, write):
    [section] = read_sections([write(documents["glue"])])
    assert section.good is False
    assert section.notes[:2] == ["svd average: drop 6.24 exceeds 3", "svd cola: drop 19.28 exceeds 3"]
    assert section.notes[2].startswith("wnli not available:")
    documents["glue"]["gates"] = None
    assert read_sections([write(documents["glue"])])[0].good is None


def test_scores_without_a_baseline(documents, write):
    document = documents["compress"]["glue"] | {"baseline": None, "gates": None}
    empty = dict.fromkeys(("drop", "se", "baseline_score", "recovery"))
    document["tasks"] = {"rte": document["tasks"]["rte"] | empty}
    document |= dict.fromkeys(("baseline_average", "average_drop", "average_drop_se"))
    [section] = read_sections([write(document)])
    assert section.headline == "org/distilbert-{task} has an average of 63.00 points."
    assert section.tables[0].rows[0] == ["rte", "250", "58.80"]
    assert not section.charts


def test_directories_stand_for_their_report(documents, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small/lpcompress.json").write_text(json.dumps(documents["compress"]))
    assert len(read_sections([tmp_path / "small"])) == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "It is not JSON."),
        ("[" * 100_000, "It is not JSON."),
        ("[]", "It is none of: lpcompress.json (compress); scores (eval-glue --out); finetuning.json (finetune)"),
        ('{"layers": []}', "It is none of"),
        ('{"layers": [], "file_bytes_after": 0}', "It lacks 'file_bytes_before'; write it again."),
    ],
)
def test_what_is_no_result_is_refused_in_a_sentence(tmp_path, content, sentence):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(LpCompressError) as found:
        read_sections([tmp_path / "x.json"])
    assert str(found.value).startswith(f"{tmp_path / 'x.json'} must be ") and sentence in str(found.value)
    assert "There is no such file" in refusal(tmp_path / "y.json")


def refusal(file):
    with pytest.raises(LpCompressError) as found:
        read_sections([file])
    return str(found.value)


WRONG = (None, -1, "x", [], [1], {}, {"a": 1})


def test_a_damaged_document_is_one_sentence_or_can_be_shown(documents, write):
    for document in documents.values():
        for key in document:
            for damaged in (
                {k: v for k, v in document.items() if k != key},
                *(document | {key: each} for each in WRONG),
            ):
                try:
                    sections = read_sections([write(damaged)])
                    rendering.as_html(sections), rendering.as_markdown(sections)
                except LpCompressError as error:
                    assert "\n" not in str(error) and " must be " in str(error)


def test_the_sizes_that_a_search_tried_are_a_table(documents, write):
    scored = {"ratio": 0.9, "passed": True, "bytes": 5_000_000, "drop": 0.25, "se": 0.5}
    refused = {"ratio": 0.99, "passed": False, "reason": "the codes do not fit."}
    section = read_sections([write(documents["compress"] | {"tried": [scored, refused]})])[0]
    assert [list(row) for row in section.tables[-1].rows] == [
        ["ratio 0.9", "5.0 MB", "0.25", "0.50", "passes"],
        ["ratio 0.99", "-", "-", "-", "the codes do not fit."],
    ]


def test_the_spectra_of_layers_with_one_name_are_one_row(documents, write):
    document = documents["compress"]
    names = ["words", "layer.0.query", "layer.1.query"]
    energy = [{"0.10": 0.5, "0.50": 0.9}, {"0.10": 0.2, "0.50": 0.6}, {"0.10": 0.4, "0.50": 0.8}]
    layers = [document["layers"][0] | {"name": name, "energy": e} for name, e in zip(names, energy, strict=True)]
    section, *_ = read_sections([write(document | {"layers": layers})])
    table = next(each for each in section.tables if each.title == "Spectra")
    assert table.headings == ["layers", "count", "largest 10%", "largest 50%"]
    assert table.rows == [["words", "1", "50.0%", "90.0%"], ["layer.*.query", "2", "30.0%", "70.0%"]]
    section, *_ = read_sections([write(document)])  # of an older version
    assert "Spectra" not in [table.title for table in section.tables]
