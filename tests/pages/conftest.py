"""Documents of every kind. Those of files come from real runs, shortened."""

import json
from pathlib import Path

import pytest

from lpcompress.finetuning.record import Record, Trained

RESULTS = Path(__file__).parent.parent / "data" / "results"


def read(name):
    return json.loads((RESULTS / name).read_text())


def record():
    return Record(
        model="org/small",
        task="rte",
        out="./tuned",
        head="kept",
        distill="org/teacher",
        n=277,
        metrics={"accuracy": 66.0},
        score=66.0,
        score_before=60.0,
        metrics_before={"accuracy": 60.0},
        gain=6.0,
        se=1.5,
        teacher_score=67.0,
        train_score=80.0,
        trained=Trained(train_loss=0.5, trained_parameters=1000, follows_hidden_states=True),
        settings={"epochs": 3.0, "max_steps": None, "seed": 0, "train_rows": 2490},
        versions={"lpcompress": "0.1.0"},
        seconds=12.0,
    ).document()


def point(method, ratio, size, error, drop):
    own = {"embedding_bytes": size // 10, "embedding_error": error, "bound": error / 2}
    scores = {"drop": drop, "drop_se": 0.5, "tasks": {}, "reason": None}
    return {"method": method, "ratio": ratio, "bytes": size, "error": error, **own, **scores}


def swept():
    points = [
        point("coded", 0.9, 50_000_000, 0.1, 0.2),
        point("coded", 0.95, 46_000_000, 0.3, 0.4),
        point("svd", 0.9, 50_000_000, 0.6, 9.0),
    ]
    lost = {"method": "svd", "ratio": 0.99, "drop": None, "drop_se": None, "tasks": {}, "reason": "svd: too small."}
    return {
        "model": "org/small",
        "dense": {"bytes": 90_000_000, "score": 84.0, "tasks": {"rte": 84.0}},
        "points": [*points, lost],
        "bound": {"bytes": [3_000_000.0, 6_000_000.0], "error": [0.2, 0.04]},
        "settings": {
            "ratios": [0.9, 0.95, 0.99],
            "methods": ["coded", "svd"],
            "tasks": ["rte"],
            "layers": ["embedding", "ffn"],
        },
        "versions": {"lpcompress": "0.1.0"},
    }


@pytest.fixture
def documents():
    """Name of a kind -> a document."""
    inspected, scores = read("inspect.json"), read("glue.json")
    single = {**scores, **scores["methods"]["svd"]}
    single["settings"] = scores["settings"] | single["settings"]
    del single["methods"]
    return {
        "inspect": inspected,
        "glue": scores,
        "compress": inspected["report"] | {"glue": single, "warnings": ["Train it."], "plan": {"ratio": 0.5}},
        "finetune": record(),
        "sweep": swept(),
    }


@pytest.fixture
def write(tmp_path):
    """A function (document) -> the file that holds it."""

    def made(document):
        file = tmp_path / "document.json"
        file.write_text(json.dumps(document))
        return file

    return made
