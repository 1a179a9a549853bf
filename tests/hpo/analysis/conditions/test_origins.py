"""Studies that did not run alike: the report names the condition and the studies."""

from __future__ import annotations

from hpo.analysis import compare
from hpo.analysis.conditions.origins import differences
from tests.hpo.analysis.stored import records, study

VERSION = "hpo.version.torch"


def test_studies_that_ran_alike_have_nothing_to_tell() -> None:
    tags = {VERSION: "2.13.0", "mlflow.source.git.commit": "a" * 40}
    files = {"devices.csv": "since_seconds,devices\n0.0,2\n"}
    assert differences([study("asha", seed, tags=tags, files=files) for seed in range(3)]) == []


def test_other_packages_are_named_with_their_studies() -> None:
    newer = [study("asha", seed, tags={VERSION: "2.13.0"}) for seed in range(3)]
    older = [study("bohb", seed, tags={VERSION: "2.12.0"}) for seed in range(2)]
    expected = "torch is 2.13.0, but 2.12.0 for 2 studies (bohb seed 0, bohb seed 1)"
    assert differences([*newer, *older]) == [expected]
    assert f"studies did not run alike: {expected}" in compare.compare(records([*newer, *older])).notes


def test_a_package_that_a_study_did_not_record_is_unknown() -> None:
    found = [study("asha", 0, tags={"hpo.version.scipy": "1"}), study("asha", 1, tags={"hpo.version.scipy": "1"})]
    assert differences([*found, study("bohb", 0, tags={})]) == ["scipy is 1, but unknown for 1 study (bohb seed 0)"]


def test_so_are_the_commit_and_the_number_of_devices() -> None:
    here = {"mlflow.source.git.commit": "0123456789abcdef"}
    two, fewer, eight = ({"devices.csv": f"since_seconds,devices\n{rows}"} for rows in ("0,2\n", "0,2\n5,1\n", "0,8\n"))
    studies = [
        study("asha", 0, tags=here, files=two),
        study("asha", 1, tags=here, files=fewer),
        study("asha", 2, tags={"mlflow.source.git.commit": "f" * 40}, files=eight),
    ]
    assert differences(studies) == [
        "the suite's commit is 0123456789, but ffffffffff for 1 study (asha seed 2)",
        "the number of devices is 2, but 8 for 1 study (asha seed 2)",
    ]


def test_confirmations_that_did_not_run_alike_are_named_too() -> None:
    """Their scores decide: random search on another torch or accelerator than the others is no fair reference."""
    here = {VERSION: "2.13.0", "hpo.accelerator": "cpu"}
    other = {VERSION: "2.12.0", "hpo.accelerator": "NVIDIA H100"}
    assert "confirmations did not run alike" not in told({"a": here, "b": here})
    assert "confirmations did not run alike: torch is 2.13.0, but 2.12.0 for 1 run (c)" in told(
        {"a": here, "b": here, "c": other}
    )
    assert "confirmations did not run alike: the accelerator is cpu, but NVIDIA H100 for 1 run (c)" in told(
        {"a": here, "b": here, "c": other}
    )


def told(runs: dict[str, dict[str, str]]) -> str:
    return "; ".join(compare.compare(records([study("asha")], confirmation_runs=runs)).notes)


def test_many_studies_are_not_all_named() -> None:
    studies = [study("asha", seed, tags={VERSION: "1" if seed < 6 else "2"}) for seed in range(11)]
    assert differences(studies)[0].endswith("for 5 studies (asha seed 6, asha seed 7, asha seed 8, ...)")
