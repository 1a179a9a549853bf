"""Differences between the machines and packages that compared studies ran on. Pure.

Studies whose accelerator or precision differ are not compared at all (`hpo.analysis.records`). Other differences are
told: versions of packages, the suite's commit, and the number of devices, on which the order of asynchronous methods
depends. Runs that confirmed them are told in the same way, with their accelerator: their scores decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpo.analysis.studies import StudyRecord
from hpo.core.wording import counted

VERSION = "hpo.version."
COMMIT = "mlflow.source.git.commit"
ACCELERATOR = "hpo.accelerator"
SHOWN_CHARACTERS = 10
"""Characters of a commit that are shown."""
UNKNOWN = "unknown"


def differences(studies: Sequence[StudyRecord]) -> list[str]:
    """Name each condition in which the studies differ, with the studies of each value but the most frequent.

    Returns:
        Clauses such as "torch is 2.13.0, but 2.12.0 for 2 studies (asha seed 3, asha seed 4)".
    """
    conditions = _software([study.tags for study in studies])
    conditions["the number of devices"] = [devices_of(study) for study in studies]
    named = [f"{study.label} seed {study.seed}" for study in studies]
    return _clauses(conditions, named, "study", "studies")


def differences_of_confirmations(runs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Name each condition in which runs of confirmations differ, likewise.

    Args:
        runs: their tags, by run.
    """
    conditions = _software(list(runs.values()))
    conditions["the accelerator"] = [tags.get(ACCELERATOR, UNKNOWN) for tags in runs.values()]
    return _clauses(conditions, list(runs), "run", "runs")


def devices_of(study: StudyRecord) -> str:
    """Return the number of devices that a study held at once at most."""
    return f"{max((devices for _, devices in study.reservations), default=0.0):g}" if study.reservations else UNKNOWN


def _software(tags: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the values of each condition that tags tell, in the order of the runs."""
    packages = sorted({tag for own in tags for tag in own if tag.startswith(VERSION)})
    found = {tag.removeprefix(VERSION): [own.get(tag, UNKNOWN) for own in tags] for tag in packages}
    return found | {"the suite's commit": [own.get(COMMIT, UNKNOWN)[:SHOWN_CHARACTERS] for own in tags]}


def _clauses(conditions: Mapping[str, Sequence[str]], runs: Sequence[str], noun: str, plural: str) -> list[str]:
    found = []
    for name, values in conditions.items():
        usual = max(values, key=values.count, default="")
        others = {
            value: [run for run, own in zip(runs, values, strict=True) if own == value]
            for value in dict.fromkeys(values)
            if value != usual
        }
        named = [f"{value} for {counted(len(own), noun, plural)} ({_names(own)})" for value, own in others.items()]
        if named:
            found.append(f"{name} is {usual}, but {' and '.join(named)}")
    return found


def _names(runs: Sequence[str], at_most: int = 3) -> str:
    return ", ".join(runs[:at_most]) + ", ..." * (len(runs) > at_most)
