"""Rows are the same from every format, none is lost, and invalid rows are refused."""

import json
import shutil
import socket
import time

import datasets
import huggingface_hub
import numpy as np
import pytest
from datasets import ClassLabel, Features, Value

from lpcompress.errors import LpCompressError
from lpcompress.glue.data import REPOSITORY, load_rows
from lpcompress.glue.tasks import AX, TASKS

SPLITS = [(task, split) for task in (*TASKS.values(), AX) for split in task.splits]
NAMES = {  # columns of the original archive, in its order; written independently of the code
    "cola": None,
    "sst2": ["sentence", "label"],
    "mrpc": ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
    "stsb": "index genre filename year old_index source1 source2 sentence1 sentence2 score".split(),
    "qqp": ["id", "qid1", "qid2", "question1", "question2", "is_duplicate"],
    "mnli": (
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
        " sentence1 sentence2 label1 label2 label3 label4 label5 gold_label"
    ).split(),
    "qnli": ["index", "question", "sentence", "label"],
    "rte": ["index", "sentence1", "sentence2", "label"],
    "wnli": ["index", "sentence1", "sentence2", "label"],
    "ax": ["index", "sentence1", "sentence2"],
}
NAMED = ("mnli", "qnli", "rte")  # tasks whose archive has class names, not numbers
FILES = {"validation": "dev", "validation_matched": "dev_matched", "validation_mismatched": "dev_mismatched"}


def as_parquet(rows, task, path, names=None):
    """Write rows as on the Hub, with class names in the metadata."""
    label = ClassLabel(names=list(names or task.classes)) if task.classes else Value("float32")
    features = Features({c: Value("string") for c in task.columns} | {"label": label, "idx": Value("int32")})
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def as_archive(rows, task, root, split):
    """Write rows as in the original archive, and return the file."""
    path = root / ("diagnostic" if task is AX else task.spelling) / f"{FILES.get(split, 'diagnostic')}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, row in enumerate(rows):
        label = task.classes[row["label"]] if task.key in NAMED else str(row["label"])
        texts = [row[column] for column in task.columns]
        if task.key == "cola":
            lines.append(["gj04", label, "" if label == "1" else "*", *texts])
            continue
        fields = dict.fromkeys(NAMES[task.key], f"x{i}")
        wanted = [n for n in NAMES[task.key] if n in (*task.columns, *(f"#{k} String" for k in "12"))]
        wanted = ["sentence1", "sentence2"] if task.key in ("mnli", "ax") else wanted
        fields |= dict(zip(wanted, texts, strict=True))
        fields |= {n: label for n in ("label", "Quality", "score", "is_duplicate", "gold_label") if n in fields}
        lines.append(list(fields.values()))
    header = [] if NAMES[task.key] is None else [NAMES[task.key]]
    path.write_text("".join("\t".join(line) + "\n" for line in header + lines), encoding="utf-8")
    return path


@pytest.fixture
def written(tmp_path):
    """A function (task, name, text) -> a GLUE directory with that one file."""

    def write(task, name, text):
        (tmp_path / task).mkdir(exist_ok=True)
        (tmp_path / task / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write


@pytest.mark.parametrize(("task", "split"), SPLITS, ids=lambda value: getattr(value, "key", value))
def test_every_format_gives_the_same_rows(glue_dir, rows_of, tmp_path, task, split):
    expected = rows_of(task.key, split)
    as_parquet(expected, task, tmp_path / "parquet" / task.key / f"{split}.parquet")
    as_parquet(expected, task, tmp_path / "hub" / task.key / f"{split}-00000-of-00001.parquet")
    as_archive(expected, task, tmp_path / "archive", split)
    sources = [glue_dir, tmp_path / "parquet", tmp_path / "hub", tmp_path / "archive"]
    found = [load_rows(task, split, source) for source in sources]
    assert len({rows.fingerprint for rows in found}) == 1
    for rows in found:
        assert (rows.task, rows.split, len(rows)) == (task, split, len(expected))
        assert list(rows.texts) == [[row[column] for row in expected] for column in task.columns]
        if task is AX:
            assert rows.labels is None
        else:
            wanted = np.float32([row["label"] for row in expected]).astype(float if not task.classes else int)
            assert rows.labels.dtype == wanted.dtype
            assert np.array_equal(rows.labels, wanted)


def test_quotes_tabs_and_odd_line_ends_lose_no_row(written):
    texts = ['"one', 'two"', 'a "quoted" word', '""', "non-breaking\u2028line", "carriage\rreturn", "café 中文", "'s"]
    lines = "".join(f"{text}\t{i % 2}\n" for i, text in enumerate(texts))
    rows = load_rows(TASKS["sst2"], "validation", written("sst2", "dev.tsv", "sentence\tlabel\n" + lines))
    assert rows.texts == (texts,)
    assert rows.labels.tolist() == [0, 1] * 4


def test_windows_line_ends_and_byte_order_marks_are_not_part_of_the_data(written):
    text = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t5\t6\tone\ttwo\r\n"
    rows = load_rows(TASKS["mrpc"], "validation", written("MRPC", "dev.tsv", text))
    assert (rows.texts, rows.labels.tolist()) == ((["one"], ["two"]), [1])


def test_blanks_at_the_ends_of_a_text_are_kept(written):
    rows = load_rows(TASKS["sst2"], "validation", written("SST-2", "dev.tsv", "sentence\tlabel\n a film \t1\n"))
    assert rows.texts == ([" a film "],)


def test_rows_with_too_few_fields_are_left_out_and_counted(written):
    text = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta\tb\t0\n4\t5\t6\tbroken\n7\t8\t9\tc\td\t1\n"
    with pytest.warns(UserWarning, match=r"dev\.tsv: 1 rows have too few fields and were left out"):
        rows = load_rows(TASKS["qqp"], "validation", written("QQP", "dev.tsv", text))
    assert (rows.texts, rows.labels.tolist()) == ((["a", "c"], ["b", "d"]), [0, 1])


def test_the_first_split_of_mnli_is_not_the_second(glue_dir):
    matched, mismatched = (load_rows(TASKS["mnli"], split, glue_dir) for split in TASKS["mnli"].splits)
    assert (len(matched), len(mismatched)) == (12, 9)


def test_limit_takes_the_first_rows(glue_dir):
    all_rows, few = (load_rows(TASKS["rte"], "validation", glue_dir, limit) for limit in (None, 5))
    assert (len(all_rows), len(few)) == (12, 5)
    assert few.texts[1] == all_rows.texts[1][:5]
    assert few.labels.tolist() == all_rows.labels[:5].tolist()
    assert few.fingerprint != all_rows.fingerprint


def test_a_changed_label_or_text_changes_the_fingerprint(rows_of, written):
    rows = rows_of("sst2", "validation")[:3]
    prints = set()
    for column, value in (("idx", 77), ("label", 0), ("sentence", "other")):
        rows[0][column] = value
        text = "\n".join(map(json.dumps, rows))
        prints.add(load_rows(TASKS["sst2"], "validation", written("sst2", "validation.jsonl", text)).fingerprint)
    assert len(prints) == 3


def test_the_fingerprint_separates_fields(written):
    prints = {
        load_rows(TASKS["rte"], "validation", written("rte", "dev.tsv", f"sentence1\tsentence2\tlabel\n{a}\t{b}\t0\n"))
        .fingerprint
        for a, b in (("ab", "c"), ("a", "bc"))
    }  # fmt: skip
    assert len(prints) == 2


def test_classes_in_another_order_in_the_file_are_mapped_by_name(rows_of, tmp_path):
    names = ("neutral", "contradiction", "entailment")
    expected = rows_of("mnli", "validation_matched")
    swapped = [row | {"label": names.index(TASKS["mnli"].classes[row["label"]])} for row in expected]
    as_parquet(swapped, TASKS["mnli"], tmp_path / "mnli" / "validation_matched.parquet", names)
    rows = load_rows(TASKS["mnli"], "validation_matched", tmp_path)
    assert rows.labels.tolist() == [row["label"] for row in expected]


def test_shards_are_read_in_their_order(rows_of, tmp_path):
    rows = rows_of("rte", "validation")
    for i, part in enumerate((rows[:7], rows[7:])):
        as_parquet(part, TASKS["rte"], tmp_path / "rte" / f"validation-0000{i}-of-00002.parquet")
    assert load_rows(TASKS["rte"], "validation", tmp_path).texts[0] == [row["sentence1"] for row in rows]


def test_training_rows_are_read(glue_dir, tmp_path):
    (tmp_path / "CoLA").mkdir()
    (tmp_path / "CoLA" / "train.tsv").write_text("gj04\t1\t\tOne two.\n")
    assert load_rows(TASKS["cola"], "train", tmp_path).texts == (["One two."],)


def test_unlabelled_rows_are_read(written):
    directory = written("cola", "test.tsv", "index\tsentence\n0\tOne two.\n1\tThree.\n")
    rows = load_rows(TASKS["cola"], "test", directory)
    assert (rows.texts, rows.labels) == ((["One two.", "Three."],), None)


@pytest.mark.parametrize(
    ("task", "name", "text", "message"),
    [
        ("sst2", "dev.tsv", "text\tlabel\na\t1\n", r"the columns sentence, label\. It lacks sentence"),
        ("sst2", "dev.tsv", "", r"dev\.tsv must have the columns"),
        ("sst2", "dev.tsv", "sentence\tlabel\n", "must hold rows of sst2. It holds none"),
        ("sst2", "dev.tsv", "sentence\tlabel\na\t1\nb\t2\n", "row 2: .* must be negative or positive. Got '2'"),
        ("rte", "dev.tsv", "sentence1\tsentence2\tlabel\na\tb\tneutral\n", "entailment or not_entailment. Got 'neut"),
        ("stsb", "dev.tsv", "sentence1\tsentence2\tscore\na\tb\t1998\n", "row 1: .* a number from 0 to 5. Got '1998'"),
        ("stsb", "dev.tsv", "sentence1\tsentence2\tscore\na\tb\thigh\n", "Got 'high'"),
        ("stsb", "dev.tsv", "sentence1\tsentence2\tscore\na\tb\tnan\n", "Got 'nan'"),
        ("cola", "validation.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": "b"', "as jsonl: line 2: Expecting"),
        ("cola", "validation.jsonl", '{"sentence": "a", "label": 1}\n["b", 0]', "as jsonl: line 2: must be an object"),
        ("cola", "validation.jsonl", '{"sentence": 7, "label": 1}', "column sentence, row 1: must be text. Got 7"),
        ("cola", "validation.jsonl", '{"sentence": "a", "label": [1]}', r"row 1: the label .* Got \[1\]"),
        ("cola", "validation.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": "b"}', "row 2: .* Got None"),
        ("cola", "validation.jsonl", '{"sentence": "a", "label": 0.5}', "Got 0.5"),
        ("cola", "validation.parquet", "PAR0", "cannot be read as parquet"),
    ],
)  # fmt: skip
def test_invalid_rows_are_refused(written, task, name, text, message):
    with pytest.raises(LpCompressError, match=message):
        load_rows(TASKS[task], "validation", written(task, name, text))


def test_text_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_bytes("sentence\tlabel\ncafé\t1\n".encode("latin-1"))
    with pytest.raises(LpCompressError, match="cannot be read as tsv: 'utf-8' codec"):
        load_rows(TASKS["sst2"], "validation", tmp_path)


def test_missing_files_are_listed(glue_dir, tmp_path):
    with pytest.raises(LpCompressError) as error:
        load_rows(TASKS["mnli"], "validation_matched", tmp_path)
    wanted = ("parquet", "tsv", "jsonl")
    assert str(error.value) == (
        f"{tmp_path} must hold the rows of mnli, validation_matched, in mnli/"
        + " or ".join(f"validation_matched.{suffix}" for suffix in wanted)
        + " or dev_matched.tsv. It has none."
    )
    with pytest.raises(LpCompressError, match=r"--data must be 'hub' or a directory with GLUE\. There is no"):
        load_rows(TASKS["rte"], "validation", tmp_path / "absent")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_the_hub_the_error_names_the_data_option(hub):
    with pytest.raises(LpCompressError, match=r"nyu-mll/glue, mrpc, validation is not in the local cache.*--data DIR"):
        load_rows(TASKS["mrpc"], "validation")


def test_a_hub_that_does_not_answer_is_given_up_on_within_10_seconds(hub, monkeypatch, fresh_python):
    script = """
import time
from lpcompress.glue.data import load_rows
from lpcompress.glue.tasks import TASKS
began = time.monotonic()
try:
    load_rows(TASKS["mrpc"], "validation")
except ValueError as error:
    print(f"{time.monotonic() - began:.1f} {error}")
"""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = fresh_python(script, HF_HUB_OFFLINE="0", HF_ENDPOINT=endpoint, HF_HUB_CACHE=str(hub))
    seconds, message = done.stdout.split(maxsplit=1)
    assert float(seconds) < 10
    assert "--data DIR" in message


def test_rows_in_the_cache_of_the_hub_need_no_network(hub, rows_of):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = hub / "datasets--nyu-mll--glue"
    rows = rows_of("mrpc", "validation")
    as_parquet(rows, TASKS["mrpc"], repository / "snapshots" / commit / "mrpc" / "validation-00000-of-00001.parquet")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    found = load_rows(TASKS["mrpc"], "validation", "hub")
    assert found.texts[0] == [row["sentence1"] for row in rows]


def test_exactly_one_file_is_requested_from_the_hub(monkeypatch, rows_of, tmp_path):
    asked = []

    def download(repository, name, **options):
        asked.append((repository, name, options))
        as_parquet(rows_of("mnli", "validation_matched"), TASKS["mnli"], tmp_path / "file.parquet")
        return str(tmp_path / "file.parquet")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("lpcompress.glue.data.answers", lambda: True)
    assert len(load_rows(TASKS["mnli"], "validation_matched")) == 12
    options = {"repo_type": "dataset", "local_files_only": False}
    assert asked == [(REPOSITORY, "mnli/validation_matched-00000-of-00001.parquet", options)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            huggingface_hub.errors.EntryNotFoundError("404"),
            "on the Hub has no file rte/train_subset-00000-of-00001.parquet",
        ),
        (ConnectionError("reset"), r"cannot be downloaded \(ConnectionError\)\. Try again, or .*--data DIR"),
    ],
)
def test_a_download_that_fails(monkeypatch, error, message):
    def download(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr("lpcompress.glue.data.answers", lambda: True)
    with pytest.raises(LpCompressError, match=message):
        load_rows(TASKS["rte"], "train_subset")


def test_many_rows_are_read_quickly(tmp_path):
    line = "{0}\t1\t2\tIs this question {0}?\tWas that question {0}?\t1\n"
    (tmp_path / "QQP").mkdir()
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    (tmp_path / "QQP" / "dev.tsv").write_text(header + "".join(line.format(i) for i in range(40_430)))
    began = time.monotonic()
    assert len(load_rows(TASKS["qqp"], "validation", tmp_path)) == 40_430
    assert time.monotonic() - began < 5
    shutil.rmtree(tmp_path / "QQP")
