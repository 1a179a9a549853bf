"""Splits of a benchmark's data: the sources of training, validation and test records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmarks.space import Count, Strict


class Split(Strict):
    """Split of the data: a file, or a split of a data set that `datasets` can load.

    Attributes:
        file: path of a file that the task reads; for question answering a SQuAD v1.1 JSON file, or a .jsonl file with
            `question`, `context` and `answers` in each line; for classification a .jsonl file with `text` and `label`
            in each line. Relative paths are relative to the YAML file.
        config: the data set's configuration, if it has several.
        dataset: name on the hub or local folder for `datasets.load_dataset`, with the columns that the task reads; for
            question answering those of `rajpurkar/squad`, for classification `text` and `label`.
        split: the split to take from `dataset`, slices allowed ("train[:1000]").
        limit: number of records that are kept, the first ones.
        articles: "all", or "held_out" and "rest", which divide the articles of one file between two splits.
        held_out_share: the share of articles in "held_out", chosen by a hash of their titles.
        revision: commit or tag of `dataset` on the hub; the newest by default, which may change between studies.
    """

    file: Path | None = None
    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    limit: Count | None = None
    articles: Literal["all", "held_out", "rest"] = "all"
    held_out_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    revision: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Split:
        if (self.file is None) == (self.dataset is None):
            raise ValueError("give either `file` or `dataset`")
        if self.dataset is not None and self.split is None:
            raise ValueError('`dataset` needs `split`, such as "train"')
        if self.file is not None and self.config is not None:
            raise ValueError("`config` goes with `dataset`, not with `file`")
        if self.revision is not None and (self.dataset is None or Path(self.dataset).is_absolute()):
            raise ValueError("`revision` goes with a `dataset` on the hub, not with a file or folder")
        return self


class Data(Strict):
    """Data in three splits. Tuning sees train and validation; test is for confirmation alone.

    Attributes:
        train: records that trials are trained on.
        validation: records that trials are ranked by.
        test: records that confirmations are scored on.
    """

    train: Split
    validation: Split
    test: Split


SPLITS = tuple(Data.model_fields)
