"""Differences between the machines and packages that compared studies ran on. Pure.

Studies whose accelerator or precision differ are not compared at all (`hpo.analysis.records`). Other differences are
told: versions of packages, the suite's commit, and the number of devices, on which the order of asynchronous methods
depends.
"""

from __future__ import annotations

from collections.abc import Sequence

from hpo.analysis.studies import StudyRecord
from hpo.core.wording import counted

VERSION = "hpo.version."
COMMIT = "mlflow.source.git.commit"
SHOWN_CHARACTERS = 10
"""Characters of a commit that are shown."""
UNKNOWN = "unknown"


def differences(studies: Sequence[StudyRecord]) -> list[str]:
    """Name each condition in which the studies differ, with the studies of each value but the most frequent.

    Returns:
        Clauses such as "torch is 2.13.0, but 2.12.0 for 2 studies (asha seed 3, asha seed 4)".
    """
    tags = sorted({tag for study in studies for tag in study.tags if tag.startswith(VERSION)})
    conditions = {tag.removeprefix(VERSION): [study.tags.get(tag, UNKNOWN) for study in studies] for tag in tags}
    conditions["the suite's commit"] = [study.tags.get(COMMIT, UNKNOWN)[:SHOWN_CHARACTERS] for study in studies]
    conditions["the number of devices"] = [devices_of(study) for study in studies]
    return [clause for name, values in conditions.items() if (clause := _clause(name, values, studies))]


def devices_of(study: StudyRecord) -> str:
    """Return the number of devices that a study held at once at most."""
    return f"{max((devices for _, devices in study.reservations), default=0.0):g}" if study.reservations else UNKNOWN


def _clause(name: str, values: Sequence[str], studies: Sequence[StudyRecord]) -> str:
    usual = max(values, key=values.count, default="")
    others = {
        value: [study for study, own in zip(studies, values, strict=True) if own == value]
        for value in dict.fromkeys(values)
        if value != usual
    }
    named = [f"{value} for {counted(len(own), 'study', 'studies')} ({_names(own)})" for value, own in others.items()]
    return f"{name} is {usual}, but {' and '.join(named)}" if named else ""


def _names(studies: Sequence[StudyRecord], at_most: int = 3) -> str:
    shown = [f"{study.label} seed {study.seed}" for study in studies[:at_most]]
    return ", ".join(shown) + ", ..." * (len(studies) > at_most)
