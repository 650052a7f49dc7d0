"""The papers' protocol: score each task's model, compress it, score it again, without fine-tuning."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lpcompress import hub
from lpcompress.atomic import refuse_unwritable, write_atomically
from lpcompress.config.origin import Origin
from lpcompress.config.plan import Plan
from lpcompress.config.scoring import HUB, Scoring, wishes
from lpcompress.errors import LpCompressError, PlanError
from lpcompress.evaluation.attempts import AS_IS, evaluate_task
from lpcompress.evaluation.comparison import refuse_unknown
from lpcompress.evaluation.evaluation import Evaluation
from lpcompress.evaluation.gates import Gates
from lpcompress.evaluation.results import FAILED, NOT_AVAILABLE, OUTCOME, TaskResult
from lpcompress.evaluation.setup import Setup, run_context
from lpcompress.evaluation.store import Store
from lpcompress.evaluation.templates import models_of
from lpcompress.evaluation.variants import variant_of
from lpcompress.glue.labels import read_label_map
from lpcompress.glue.tasks import Task, chosen
from lpcompress.presentation import as_json
from lpcompress.processes import Workers
from lpcompress.progress import Callback, Progress


def eval_glue(
    model: str | Path,
    tasks: str | Iterable[str] = "all",
    *,
    plan: Plan | None = None,
    scoring: Scoring | None = None,
    methods: Sequence[str] = (),
    baseline: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    progress: Callback | None = None,
    revision: str | None = None,
    subfolder: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    r"""Score models on GLUE's development sets, before and after compression, without fine-tuning.

    With `methods` or any option of `compress` (ratio, p, method, ...), each task's model is scored, compressed in
    memory and scored again. With `baseline`, each model is compared with the one that it was made from. Otherwise the
    models are only scored.

    Parameters
    ----------
    model : str or Path
        Hub id or directory of one model, fine-tuned on one task; a template that contains `{task}`, `{Task}` or
        `{TASK}`; or a YAML file that maps tasks to models.
    tasks : str or iterable of str, default="all"
        Keys such as "mrpc,cola"; "all" means the nine tasks. "ax" is the diagnostic set, which has no labels and gives
        predictions only; "all" does not include it.
    plan : Plan, optional
        How to compress each model before it is scored again.
    scoring : Scoring, optional
        How to score. By default all rows of the Hub's data, without gates.
    methods : sequence of str
        Compression methods to compare. Each uncompressed model is scored only once.
    baseline : str or Path, optional
        The models that `model` was made from, in any form that `model` can have.
    out : str or Path, optional
        JSON file for the results. Finished parts are kept beside it, in a directory whose name ends in `.parts`.
    resume : bool, default=False
        Reuse the finished parts of an earlier run with the same settings and the same `out`.
    device : str, optional
        Such as "cpu" or "cuda:1". By default a GPU if there is one.
    progress : callable (description, done, total), optional
        `done` and `total` are None if unknown.
    revision, subfolder : str, optional
        Branch, tag or commit of `model` on the Hub; folder that holds the checkpoint. Not of `baseline`.
    **options
        Fields of `Scoring` (data, limit, batch_size, label_map, primary, max_drop, min_recovery) and of `Plan` (ratio,
        method, p, ...). They override the fields of `scoring` and `plan`; `seed` sets both.

    Returns
    -------
    dict
        The document that `eval-glue --json` prints, see the README. Metrics, scores and drops are in points (100 times
        the metric). A task that failed or has no model has a `status` and a `reason`.

    Raises
    ------
    PlanError
        If an option is invalid.
    LpCompressError
        If no task could be scored, or the results cannot be written.

    Warns
    -----
    UserWarning
        For each task that failed.

    Examples
    --------
    A random model and two rows, so that nothing is downloaded. For real ones leave out `data` and give, for instance,
    the model "textattack/bert-base-uncased-{TASK}" and the tasks "all".

    >>> import json, tempfile
    >>> from transformers import BertConfig, BertForSequenceClassification, BertTokenizer
    >>> scratch = tempfile.TemporaryDirectory()
    >>> home = Path(scratch.name)
    >>> words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rain", "sun"]
    >>> _ = BertTokenizer(vocab={word: i for i, word in enumerate(words)}).save_pretrained(home / "model")
    >>> sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
    >>> config = BertConfig(vocab_size=7, id2label={0: "entailment", 1: "not_entailment"}, **sizes)
    >>> BertForSequenceClassification(config).save_pretrained(home / "model")
    >>> rows = [{"sentence1": "rain", "sentence2": word, "label": i} for i, word in enumerate(["rain", "sun"])]
    >>> (home / "rte").mkdir()
    >>> _ = (home / "rte" / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    >>> found = eval_glue(home / "model", "rte", data=home, method="svd", ratio=0.3, device="cpu")
    >>> found["formula"], found["tasks"]["rte"]["n"]
    ('average over 1 of 9 tasks = (RTE accuracy) / 1', 2)
    >>> found["average_drop"] == found["baseline_average"] - found["average"]
    True
    >>> scratch.cleanup()
    """
    plans, scoring = wishes(plan, scoring, methods, options)
    where: dict[str, Any] = {"baseline": baseline, "out": out, "resume": resume, "device": device}
    where["origin"] = Origin(revision=revision, subfolder=subfolder)
    return evaluate(model, tasks, plans, scoring, progress=progress, **where).document()


def evaluate(
    model: str | Path,
    tasks: str | Iterable[str],
    plans: Mapping[str, Plan],
    scoring: Scoring,
    *,
    baseline: str | Path | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    progress: Callback | None = None,
    origin: Origin | None = None,
) -> Evaluation:
    """Do the work of `eval_glue` and return the results as an object.

    Parameters
    ----------
    model, tasks, baseline, out, resume, device, progress
        As for `eval_glue`.
    plans : mapping of str to Plan
        By method name; empty if nothing is to be compressed.
    scoring : Scoring
    origin : Origin, optional
        Which version of the models.

    Raises
    ------
    PlanError, LpCompressError
        As `eval_glue` does.
    """
    wanted, gates = chosen(tasks), Gates.of(scoring)
    refuse_unknown(scoring.primary)
    if gates and not (plans or baseline):
        raise PlanError("max_drop and min_recovery need something to compare with. Give a ratio or a baseline.")
    if baseline and plans:
        asked = [key for key in next(iter(plans.values())).given() if key != "seed"]
        raise PlanError(
            "baseline is for models that are already compressed. A model that is compressed here is its own baseline."
            f" Leave out baseline, or {', '.join(asked) or 'the compression options'}."
        )
    if resume and not out:
        raise PlanError("resume needs out: the finished parts are kept beside that file. Give the same file as before.")
    if scoring.label_map:
        read_label_map(scoring.label_map)  # raises before any work
    if out:
        refuse_unwritable(Path(out))
    models = models_of(str(model), wanted)
    baselines = models_of(str(baseline), wanted) if baseline else None
    setup = Setup(
        Workers(device),
        scoring,
        store=Store.beside(Path(out), resume, OUTCOME) if out else None,
        context=run_context(),
        progress=Progress.of(progress),
        origin=origin or Origin(),
    )
    results = _scored(wanted, models, baselines, setup, plans)
    reference = baseline or (model if plans else None)
    evaluation = Evaluation.of(str(model), str(reference) if reference else None, results, setup, plans)
    if out:
        text = as_json(evaluation) + "\n"
        setup.workers.main_alone(lambda: write_atomically(Path(out), text))
    return evaluation


def _scored(
    tasks: Sequence[Task],
    models: Mapping[str, str | None],
    baselines: Mapping[str, str | None] | None,
    setup: Setup,
    plans: Mapping[str, Plan],
) -> dict[str, dict[str, TaskResult]]:
    """Return the results by plan name (or `AS_IS`) and task key."""
    variants = [variant_of(name, plan, setup) for name, plan in plans.items()]
    results: dict[str, dict[str, TaskResult]] = {name: {} for name in plans or [AS_IS]}
    named = [name for name in (*models.values(), *(baselines or {}).values()) if name]
    local = setup.scoring.data != HUB and all(Path(name).exists() for name in named)
    with nullcontext() if local else hub.asked_once():
        for task in tasks:
            model, baseline = models[task.key], baselines[task.key] if baselines else None
            if model is None or (baselines and baseline is None):
                found = dict.fromkeys(results, TaskResult(NOT_AVAILABLE, reason=f"no model is named for {task.key}"))
            else:
                found = evaluate_task(task, model, setup, variants, baseline)
            for name, result in found.items():
                results[name][task.key] = result
    _report_failures(results)
    return results


def _report_failures(results: Mapping[str, Mapping[str, TaskResult]]) -> None:
    """Warn of each task that failed; raise if no task has a result."""
    found = [(name, key, result) for name, tasks in results.items() for key, result in tasks.items()]
    if all(result.reason for *_, result in found):
        _, key, first = found[0]
        others = len(found) // len(results) - 1
        raise LpCompressError(
            f"{key}: {first.reason}" + f" The other {others} tasks have no score either." * bool(others)
        )
    for name, key, result in found:
        if result.status == FAILED:
            warnings.warn(f"{' '.join(filter(None, (key, name)))} failed: {result.reason}", stacklevel=5)
