"""Timelines rebuilt from stored units: packing, stints, and the share of devices in use."""

from __future__ import annotations

import pandas as pd
import pytest

from hpo.analysis import timeline
from tests.hpo.report.comparisons import (
    make_study,
)


class TestPacking:
    def test_intervals_that_follow_each_other_share_a_row(self) -> None:
        assert timeline.pack([(0, 2), (2, 3), (3, 9)]) == [0, 0, 0]

    def test_intervals_that_overlap_do_not(self) -> None:
        assert timeline.pack([(0, 2), (1, 3), (2, 4), (3, 5)]) == [0, 1, 0, 1]

    def test_the_row_that_became_free_last_goes_on(self) -> None:
        assert timeline.pack([(0, 1), (0, 3), (3, 4)]) == [0, 1, 1]

    def test_the_order_given_matters_only_among_those_that_begin_together(self) -> None:
        assert timeline.pack([(3, 4), (0, 3), (0, 1)]) == [0, 0, 1]

    def test_no_more_rows_than_devices_though_results_arrive_late(self) -> None:
        assert timeline.pack([(0, 2.01), (0, 3), (2.0, 4)], most=2) == [0, 1, 0]
        assert timeline.pack([(0, 2.01), (0, 3), (2.0, 4)]) == [0, 1, 2]


class TestTimeline:
    def test_parts_lie_before_the_end_of_their_unit(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        first = parts[(parts["trial"] == 1)]
        assert first[["part", "began_seconds", "ended_seconds"]].values.tolist() == [
            ["idle", 0.0, 0.5],
            ["startup", 0.5, 1.0],
            ["train", 1.0, 2.0],
            ["evaluate", 2.0, 2.5],
        ]

    def test_trials_keep_their_device(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        rows = parts.groupby("trial")["row"].unique().map(list).to_dict()
        assert rows == {0: [0], 1: [1], 2: [1], 3: [1]}

    def test_a_device_that_joined_late_has_a_row_though_the_mean_is_one(self) -> None:
        """Two trials at once in the last of ten seconds, after nine with one device."""
        units = "trial,units,ended_seconds,train_seconds\n0,1,9.0,9.0\n1,1,10.0,1.0\n2,1,10.0,1.0\n"
        study = make_study("asha", 0, files={"units.csv": units, "devices.csv": "since_seconds,devices\n0,1\n9,2\n"})
        assert timeline.rows_of(study) == 2
        assert sorted(timeline.unit_parts(study)["row"]) == [0, 0, 1]

    def test_a_trial_begins_once_unless_it_was_paused(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        assert parts[parts["begins"]]["trial"].tolist() == [0, 1, 2, 3]
        paused = "trial,units,ended_seconds,train_seconds\n0,1,1.0,1.0\n1,1,2.0,1.0\n0,2,3.0,1.0\n"
        study = make_study("hyperband", 0, files={"units.csv": paused, "devices.csv": "since_seconds,devices\n0.0,1\n"})
        parts = timeline.unit_parts(study)
        assert parts[["trial", "row", "begins"]].values.tolist() == [[0, 0, True], [1, 0, True], [0, 0, True]]

    def test_all_measured_time_is_there_once(self) -> None:
        parts = timeline.unit_parts(make_study("asha", 0))
        seconds = (parts["ended_seconds"] - parts["began_seconds"]).groupby(parts["part"]).sum()
        assert seconds.to_dict() == pytest.approx(
            {"startup": 1.0, "train": 9.0, "evaluate": 4.0, "checkpoint": 0.5, "idle": 1.0}
        )

    def test_share_of_devices_in_use(self) -> None:
        parts = pd.DataFrame(
            [("train", 0.0, 1.0), ("evaluate", 1.0, 2.0), ("train", 1.5, 2.0), ("idle", 2.0, 4.0)],
            columns=["part", "began_seconds", "ended_seconds"],
        )
        used = timeline.in_use(parts, rows=2, until_seconds=4.0, bins=4)
        assert used["share"].tolist() == pytest.approx([0.5, 0.75, 0.0, 0.0])
