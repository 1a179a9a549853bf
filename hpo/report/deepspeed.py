"""Results of a DeepSpeed study for people and programs: printed, CSV, Markdown, a figure. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.training.deepspeed import Precision
from benchmarks.zero import plan
from benchmarks.zero.settings import Configuration, Scale
from benchmarks.zero.study import Row
from hpo.core.text_tables import csv_of
from hpo.report.figures.plots import METHOD_COLORS as COLORS
from hpo.report.tables import pipe_table

BY_EPOCH = {"train_losses": "train_loss", "eval_losses": "eval_loss"}
PATTERNS = ("", "/", "x")
"""Patterns of bars, once all colours are used."""


@dataclass(frozen=True)
class ScaledRow:
    """A row beside its plan and the same configuration on fewer ranks.

    Attributes:
        planned: memory of its model states.
        base_ranks: ranks that it is measured against: the fewest with which the same configuration ran, one rank or
            the same scaling; None, as the next two, if it did not run.
        speed_up: its samples per second, divided by theirs.
        efficiency: the speed-up, divided by the factor by which it has more ranks.
    """

    row: Row
    planned: plan.MemoryPlan
    base_ranks: int | None = None
    speed_up: float | None = None
    efficiency: float | None = None

    def __str__(self) -> str:
        """Write a line of progress."""
        row = self.row
        name = f"{row.configuration.name} ({row.scale.name})"
        if row.outcome != "completed":
            return f"{name}: {row.outcome}: {row.reason}"
        known = numbers(self)
        speed = f"{known['train_samples_per_second']:.1f} samples/s"
        return f"{name}: train loss {known['train_loss']:.4f}, eval loss {known['eval_loss']:.4f}, {speed}"


COLUMNS = (
    "train_loss",
    "eval_loss",
    "train_samples_per_second",
    "train_tokens_per_second",
    "eval_samples_per_second",
    "steps_per_epoch",
    "train_examples",
    "eval_examples",
    "train_seconds",
    "wall_seconds",
    "gpu_peak_mb",
    "gpu_mean_mb",
    "gpu_min_mb",
    "torch_peak_mb",
    "planned_device_mb",
    "host_peak_mb",
    "host_mean_mb",
    "planned_host_mb",
    "memory_samples_per_second",
    "base_ranks",
    "speed_up",
    "efficiency",
)
"""Numbers of a row of the CSV file; empty where a row has none."""


RESULTS = {
    "train\nloss": "{train_loss:.4f}",
    "eval loss\nby epoch": "{eval_losses}",
    "samples/s\n(eval)": "{train_samples_per_second:.1f}\n({eval_samples_per_second:.1f})",
    "tokens/s": "{train_tokens_per_second:.0f}",
    "speed-up,\nefficiency": "{speed_up:.2f}\n{efficiency:.0%}",
}
TIME = {"steps per\nepoch": "{steps_per_epoch:.0f}", "wall\nseconds": "{wall_seconds:.0f}"}
GPU_MEMORY = {
    "GPU MiB\npeak\n(planned)": "{gpu_peak_mb:.0f}\n({planned_device_mb:.0f})",
    "GPU MiB\nmean\nleast\ntorch": "{gpu_mean_mb:.0f}\n{gpu_min_mb:.0f}\n{torch_peak_mb:.0f}",
}
HOST_MEMORY = {"host MiB\npeak\n(planned)\nmean": "{host_peak_mb:.0f}\n({planned_in_host_mb:.0f})\n{host_mean_mb:.0f}"}
"""Columns of the printed tables: heading and cell."""


def numbers(one: ScaledRow) -> dict[str, float]:
    """Collect everything of a row that is one number, by name of the metric."""
    row = one.row
    found: dict[str, float | None] = {
        name: value for name, value in row.measured.items() if isinstance(value, (int, float))
    }
    for name, metric in BY_EPOCH.items():
        if values := row.measured.get(name):
            found[metric] = values[-1]
    found["wall_seconds"] = row.wall_seconds
    found |= {"planned_device_mb": one.planned.device_mb, "planned_host_mb": one.planned.host_mb}
    found |= {"base_ranks": one.base_ranks, "speed_up": one.speed_up, "efficiency": one.efficiency}
    return {name: float(value) for name, value in found.items() if value is not None}


def rows(scaled: Sequence[ScaledRow]) -> list[dict[str, Any]]:
    """Return everything, one dictionary per row."""
    found = []
    for one in scaled:
        row, known = one.row, numbers(one)
        found.append(
            {
                "configuration": row.configuration.name,
                "ranks_per_node": row.scale.ranks_per_node,
                "nodes": row.scale.nodes,
                "scaling": row.scale.scaling,
                "outcome": row.outcome,
                **{name: known.get(name) for name in COLUMNS},
                "eval_loss_by_epoch": " ".join(f"{loss:.6g}" for loss in row.measured.get("eval_losses", [])),
                "reason": row.reason,
            }
        )
    return found


def files(scaled: Sequence[ScaledRow]) -> dict[str, str]:
    """Write the table as CSV and Markdown, and the figure; nothing without rows."""
    if not scaled:
        return {}
    found = rows(scaled)
    shown = [name for name in found[0] if any(row[name] not in (None, "") for row in found)]
    return {
        "deepspeed.csv": csv_of(found),
        "deepspeed.md": pipe_table(found, shown) + "\n",
        "deepspeed.html": figure(scaled).to_html(full_html=True, include_plotlyjs=True),
    }


def tables(scaled: Sequence[ScaledRow], title: str) -> Iterator[Table]:
    """Lay out the columns that fit a terminal of 80 characters; the files have more.

    A row without measurements has its outcome. Without rows there are no tables.
    """
    if scaled:
        yield _table(scaled, title, RESULTS)
    done = [one for one in scaled if one.row.outcome == "completed"]
    if done:
        memory = {**GPU_MEMORY, **HOST_MEMORY} if _on_gpu(done) else HOST_MEMORY
        yield _table(done, "time and memory", {**TIME, **memory})


def _table(scaled: Sequence[ScaledRow], title: str, columns: Mapping[str, str]) -> Table:
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    made.add_column("configuration", no_wrap=True)
    for heading in ("ranks", *columns):
        made.add_column(heading, justify="right")
    on_gpu = _on_gpu(scaled)
    for one in scaled:
        name = (one.row.configuration.name, one.row.scale.name)
        if one.row.outcome == "completed":
            shown = _shown(one, on_gpu)
            made.add_row(*name, *(cell.format_map(shown) for cell in columns.values()))
        else:
            made.add_row(*name, one.row.outcome)
    return made


def _shown(one: ScaledRow, on_gpu: bool) -> dict[str, Any]:
    """Collect the values of a row's cells."""
    known = numbers(one)
    planned = known["planned_host_mb"] + (0 if on_gpu else known["planned_device_mb"])
    losses = "\n".join(f"{loss:.4f}" for loss in one.row.measured["eval_losses"])
    return {**known, "planned_in_host_mb": planned, "eval_losses": losses}


def _on_gpu(scaled: Sequence[ScaledRow]) -> bool:
    return any("gpu_peak_mb" in numbers(one) for one in scaled)


def plan_text(size: plan.ModelSize, wanted: Sequence[Configuration], at: Sequence[Scale], precision: Precision) -> str:
    """Tell the memory of model states before anything runs: one line per number of ranks, however they scale."""
    text = [f"{size.parameters:,} parameters; model states of a rank, MiB on the device (and on the host), planned:"]
    for scale in dict.fromkeys(dataclasses.replace(scale, scaling="strong") for scale in at):
        found = [
            (one.name, plan.plan_memory(size, one.stage, one.offload, precision, scale.ranks_per_node, scale.nodes))
            for one in wanted
        ]
        states = ", ".join(f"{name} {each.device_mb:.0f} ({each.host_mb:.0f})" for name, each in found)
        text.append(f"  ranks {scale.number}: {states}")
    return "\n".join(text)


def reasons(scaled: Sequence[ScaledRow]) -> list[str]:
    """List the reasons why rows have no measurements, one sentence for all rows that share it."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for one in scaled:
        if one.row.reason:
            name = f"{one.row.configuration.name} ({one.row.scale.name})"
            by_reason.setdefault((one.row.outcome, one.row.reason), []).append(name)
    return [f"{outcome}: {', '.join(names)}: {reason}" for (outcome, reason), names in by_reason.items()]


def figure(scaled: Sequence[ScaledRow]) -> go.Figure:
    """Draw samples per second, and memory beside its plan, by configuration; one colour per scale.

    A row without measurements has its outcome in the place of its upper bar.
    """
    on_gpu = _on_gpu(scaled)
    titles = ("training speed", f"peak memory ({'GPU' if on_gpu else 'host, a rank'})")
    made = make_subplots(rows=2, cols=1, vertical_spacing=0.14, subplot_titles=titles)
    by_scale = {one.row.scale: [other for other in scaled if other.row.scale == one.row.scale] for one in scaled}
    for number, here in enumerate(by_scale.values()):
        look, words = _look(here, number), _outcomes(here, is_narrow=len(by_scale) > 1)
        made.add_bar(y=_values(here, "train_samples_per_second"), row=1, col=1, **look, **words)
        peak = _values(here, "gpu_peak_mb" if on_gpu else "host_peak_mb")
        made.add_bar(y=peak, row=2, col=1, **look, showlegend=False)
        planned = [one.planned.device_mb + (0 if on_gpu else one.planned.host_mb) for one in here]
        made.add_scatter(x=look["x"], y=planned, row=2, col=1, **_mark(here, is_first=number == 0))
    for row, unit in ((1, "samples/s"), (2, "MiB")):
        highest = max(value for bars in made.select_traces(row=row, col=1) for value in bars.y)
        made.update_yaxes(title_text=unit, range=[0, 1.15 * highest or 1], row=row, col=1)  # room for words
    made.update_layout(template="plotly_white", height=700, barmode="group", scattermode="group", legend_title="ranks")
    return made


def _values(scaled: Sequence[ScaledRow], name: str) -> list[float]:
    return [numbers(one).get(name, 0.0) for one in scaled]


def _look(scaled: Sequence[ScaledRow], number: int) -> dict[str, Any]:
    """Choose the look of the bars of a scale, the `number`-th."""
    name, pattern = scaled[0].row.scale.name, PATTERNS[number // len(COLORS) % len(PATTERNS)]
    return {
        "x": [one.row.configuration.name for one in scaled],
        "name": name,
        "legendgroup": name,
        "offsetgroup": name,
        "marker": {"color": COLORS[number % len(COLORS)], "pattern": {"shape": pattern}},
    }


def _outcomes(scaled: Sequence[ScaledRow], is_narrow: bool) -> dict[str, Any]:
    """Write outcomes in place of missing bars; upright if the bars are narrow."""
    outcomes = [one.row.outcome for one in scaled]
    return {
        "text": ["" if outcome == "completed" else outcome for outcome in outcomes],
        "textposition": "outside",
        "textangle": -90 if is_narrow else 0,
        "constraintext": "none",
    }


def _mark(scaled: Sequence[ScaledRow], is_first: bool) -> dict[str, Any]:
    """Draw a stroke across a bar of the scale; the legend has it once."""
    return {
        "mode": "markers",
        "marker": {"symbol": "line-ew", "size": 12, "line": {"width": 3, "color": "black"}},
        "name": "planned: model states",
        "legendgroup": "planned",
        "offsetgroup": scaled[0].row.scale.name,
        "showlegend": is_first,
        "legendrank": 2000,  # last
        "cliponaxis": False,
    }
