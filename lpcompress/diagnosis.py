"""What this machine has for lpcompress: packages, devices, kernels, the Hub, its cache, disk space."""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, get_token
from packaging.requirements import Requirement
from rich.table import Table

from lpcompress import hub
from lpcompress.presentation import megabytes, plain_table
from lpcompress.version import versions

EXTRAS = {
    "demo": "lpcompress demo: the real model that it compresses",
    "images": "scripts/reproduce_paper3.py: images",
    "plots": "pictures of lpcompress sweep and demo, and of scripts/bench_rivals.py",
    "onnx": "lpcompress export: writing and checking ONNX files",
    "docs": "make docs: the pages of docs/ as a site",
    "dev": "the checks of a clone, make check",
}
"""What an extra of the package is for. Those that this version does not have are left out of the report."""


@dataclass(frozen=True)
class Extra:
    """An optional part of the package.

    Attributes
    ----------
    name : str
    serves : str
        What needs it.
    missing : list of str
        Requirements that are not installed in a version that would do; empty if the part is there.
    """

    name: str
    serves: str
    missing: list[str]


@dataclass(frozen=True)
class Diagnosis:
    """Result of `diagnose`.

    Attributes
    ----------
    versions : dict of str to str
    problems : list of str
        What keeps commands from working: a sentence for each required package that is missing or too old.
    devices : dict of str to str
        Name for `--device` -> what it is.
    kernels : dict of str to str
        What torch computes with on the CPU.
    hub : dict
        `endpoint`; whether it is `reachable`, None if HF_HUB_OFFLINE forbids to ask; whether somebody is `logged_in`.
    cache : dict
        `path` of the Hub's cache and the number of `models` in it.
    free_bytes : dict of str to int
        Directory -> free bytes of its disk.
    extras : list of Extra
    """

    versions: dict[str, str]
    problems: list[str]
    devices: dict[str, str]
    kernels: dict[str, str]
    hub: dict[str, Any]
    cache: dict[str, Any]
    free_bytes: dict[str, int]
    extras: list[Extra]


def diagnose() -> Diagnosis:
    """Look at the machine; only the Hub is asked over the network, for seconds at most.

    Examples
    --------
    >>> "cpu" in diagnose().devices
    True
    """
    needed = _requirements()
    lacking = [each for each in needed if each.marker is None and not _installed(each)]
    cache = Path(constants.HF_HUB_CACHE)
    return Diagnosis(
        versions=versions(),
        problems=[f"{each} is needed and not installed in such a version: pip install '{each}'" for each in lacking],
        devices=_devices(),
        kernels=_kernels(),
        hub=_hub(),
        cache={"path": str(cache), "models": len(list(cache.glob("models--*")))},
        free_bytes={str(place): shutil.disk_usage(place).free for place in _places(cache)},
        extras=_extras(needed),
    )


def _requirements() -> list[Requirement]:
    """Return what the package asks for; nothing if it is run from a clone without being installed."""
    try:
        return [Requirement(line) for line in requires("lpcompress") or ()]
    except PackageNotFoundError:
        return []


def _installed(needed: Requirement) -> bool:
    try:
        return needed.specifier.contains(version(needed.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _extras(needed: list[Requirement]) -> list[Extra]:
    names = sorted({name for name in EXTRAS if any(_belongs(each, name) for each in needed)})
    missing = {name: [each for each in needed if _belongs(each, name) and not _installed(each)] for name in names}
    return [Extra(name, EXTRAS[name], [f"{each.name}{each.specifier}" for each in missing[name]]) for name in names]


def _belongs(needed: Requirement, extra: str) -> bool:
    """Return whether a requirement is one of an extra, and of nothing else."""
    marker = needed.marker
    return marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""})


def _devices() -> dict[str, str]:
    found = {"cpu": f"{torch.get_num_threads()} of {os.cpu_count()} cores"}
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{about.name}, {megabytes(about.total_memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _kernels() -> dict[str, str]:
    found = {"instructions": torch.backends.cpu.get_cpu_capability()}
    libraries = {"oneDNN": torch.backends.mkldnn, "MKL": torch.backends.mkl, "OpenMP": torch.backends.openmp}
    found |= {name: "yes" if library.is_available() else "no" for name, library in libraries.items()}
    return found | {"int8": ", ".join(torch.backends.quantized.supported_engines) or "none"}


def _hub() -> dict[str, Any]:
    reachable = None if constants.HF_HUB_OFFLINE else hub.answers()
    endpoint = re.sub("//[^/@]*@", "//", constants.ENDPOINT)  # without a password
    return {"endpoint": endpoint, "reachable": reachable, "logged_in": get_token() is not None}


def _places(cache: Path) -> list[Path]:
    """Return the directories whose disks matter: this one, that of scratch files, the cache or where it will be."""
    existing = next(each for each in (cache, *cache.parents) if each.exists())
    return list(dict.fromkeys([Path.cwd(), Path(tempfile.gettempdir()), existing]))


def diagnosis_tables(found: Diagnosis) -> list[Table]:
    """Return the tables of `lpcompress doctor`."""
    reachable = {True: "reachable", False: "not reachable", None: "not asked, because HF_HUB_OFFLINE is set"}
    machine = {f"device {name}": about for name, about in found.devices.items()}
    machine |= {f"kernels, {name}": about for name, about in found.kernels.items()}
    machine |= {
        "Hub": f"{found.hub['endpoint']}: {reachable[found.hub['reachable']]}",
        "Hub account": "logged in" if found.hub["logged_in"] else "not logged in (private models: hf auth login)",
        "Hub cache": f"{found.cache['path']}: {found.cache['models']:,} models",
    }
    machine |= {f"free in {place}": megabytes(count) for place, count in found.free_bytes.items()}
    parts = {
        f"{each.name}, for {each.serves}": f"pip install 'lpcompress[{each.name}]' (lacks {', '.join(each.missing)})"
        if each.missing
        else "there"
        for each in found.extras
    }
    tables = {"this machine": machine, "packages": found.versions, "optional parts": parts}
    return [_pairs(title, values) for title, values in tables.items() if values]


def _pairs(title: str, values: dict[str, str]) -> Table:
    table = plain_table(title)
    table.show_header = False
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(name, value)
    return table
