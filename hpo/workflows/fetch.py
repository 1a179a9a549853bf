"""Download of a benchmark's model and data from the Hugging Face hub, for machines that cannot reach it.

Compute nodes of many clusters have no way to the internet, but login nodes have. `python -m hpo fetch` downloads model
and data there (weights as safetensors alone, data as Parquet or JSON), checks that everything loads without the hub,
and writes the benchmark with the folders in place of the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from benchmarks.check import check, hub
from benchmarks.check.start import check_start
from benchmarks.files import yaml_text
from benchmarks.spec import Benchmark, BenchmarkError, first_line
from benchmarks.trials.trial import TrialSettings
from hpo.terminal import errors

MODEL_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""Files of a model: configuration, weights, tokenizer. Pickled weights stay where they are."""
DATA_FILES = ["*.parquet", "*.json", "*.jsonl", "README.md"]
"""Files of a data set; its README assigns files to splits."""


def fetch(benchmark: Benchmark, folder: Path) -> tuple[dict[str, Path], Path]:
    """Download, check, and write the benchmark as it is to be used.

    Args:
        benchmark: the benchmark, which names model and data.
        folder: gets the files; files that lie there already are not downloaded again.

    Returns:
        The folder of each hub name, and the benchmark's new file.

    Raises:
        BenchmarkError: nothing to download, the hub cannot be reached or lacks it, or the files cannot be used.
    """
    names = _hub_names(benchmark.trial)
    if not names:
        raise BenchmarkError(f"benchmark {benchmark.name} names nothing on the hub: all its files are local")
    places = {name: folder.resolve() / name.replace("/", "--") for name in names}
    revisions = _revisions(benchmark.trial)
    for name, kind in names.items():
        _download(name, kind, places[name], revisions.get(name))
    local = _with_folders(benchmark, places)
    _check(local)
    path = folder / f"{benchmark.name}.yaml"
    path.write_text(yaml_text(local.model_dump(mode="json", exclude_none=True)))
    return places, path


def _hub_names(trial: TrialSettings) -> dict[str, Literal["model", "dataset"]]:
    """Name the model and data sets that lie on the hub; paths of local folders are absolute by now."""
    found: dict[str, Literal["model", "dataset"]] = {}
    if trial.model and not Path(trial.model).is_absolute():
        found[trial.model] = "model"
    for split in trial.splits.values():
        if split.dataset is not None and not Path(split.dataset).is_absolute():
            found[split.dataset] = "dataset"
    return found


def _revisions(trial: TrialSettings) -> dict[str, str | None]:
    """Return the revision of each data set; one folder holds one of them."""
    found: dict[str, str | None] = {}
    for split in trial.splits.values():
        if split.dataset is not None and found.setdefault(split.dataset, split.revision) != split.revision:
            both = f"{found[split.dataset] or 'the newest'} and {split.revision or 'the newest'}"
            raise BenchmarkError(
                f"data set {split.dataset}: has the revisions {both}, but a folder holds one; give its splits the same"
            )
    return found


def _download(name: str, kind: Literal["model", "dataset"], place: Path, revision: str | None) -> None:
    from huggingface_hub import snapshot_download

    files = MODEL_FILES if kind == "model" else DATA_FILES
    try:
        with hub.readable_errors(kind, name, revision):
            snapshot_download(name, repo_type=kind, revision=revision, local_dir=place, allow_patterns=files)
    except BenchmarkError:
        raise
    except (OSError, RuntimeError) as error:
        raise BenchmarkError(
            f"{kind} {name}: cannot be downloaded ({type(error).__name__}: {first_line(error)}); run this where there "
            "is internet, such as a login node (HTTPS_PROXY or HF_ENDPOINT may be needed), with room in the folder"
        ) from None


def _with_folders(benchmark: Benchmark, places: dict[str, Path]) -> Benchmark:
    """Put folders in place of hub names."""
    content: dict[str, Any] = benchmark.model_dump(mode="json", exclude_none=True)
    finetune = content["finetune"]
    for section, key in ((finetune, "model"), *((split, "dataset") for split in finetune["data"].values())):
        if section.get(key) in places:
            section[key] = str(places[section[key]])
            section.pop("revision", None)
    return Benchmark.model_validate(content)


def _check(benchmark: Benchmark) -> None:
    """Check that all of it loads, weights by their headers, which tell of files that are cut off.

    Raises:
        BenchmarkError: a part of it does not load.
    """
    for warning in (*check(benchmark), *check_start(benchmark)):
        errors.warn(warning)
