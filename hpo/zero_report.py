"""The lines of a DeepSpeed study as people and programs read them: printed, CSV, Markdown, a figure. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.zero import plan
from benchmarks.zero.config import Precision
from benchmarks.zero.settings import Configuration, Scale
from benchmarks.zero.study import Row
from hpo.tables import markdown_table, to_csv

BY_EPOCH = {"train_losses": "train_loss", "eval_losses": "eval_loss"}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#b85c93", "#b07d00")


@dataclass(frozen=True)
class Line:
    """A row with what was expected of it, and how it scales.

    Attributes:
        planned: memory of its model states.
        base_ranks: ranks that it is measured against: the fewest with which the same configuration ran, one rank or
            the same scaling; None, as the next two, if it did not run.
        speed_up: its samples a second, over theirs.
        efficiency: the speed-up, over the factor by which it has more ranks.
    """

    row: Row
    planned: plan.Estimate
    base_ranks: int | None = None
    speed_up: float | None = None
    efficiency: float | None = None

    def __str__(self) -> str:
        """A line of progress."""
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


def numbers(line: Line) -> dict[str, float]:
    """Everything of a line that is one number, by name of the metric."""
    row = line.row
    found: dict[str, float | None] = {
        name: value for name, value in row.measured.items() if isinstance(value, (int, float))
    }
    for name, metric in BY_EPOCH.items():
        if values := row.measured.get(name):
            found[metric] = values[-1]
    found["wall_seconds"] = row.wall_seconds
    found |= {"planned_device_mb": line.planned.device_mb, "planned_host_mb": line.planned.host_mb}
    found |= {"base_ranks": line.base_ranks, "speed_up": line.speed_up, "efficiency": line.efficiency}
    return {name: float(value) for name, value in found.items() if value is not None}


def rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Everything, a row a line."""
    found = []
    for line in lines:
        row, known = line.row, numbers(line)
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


def files(lines: Sequence[Line]) -> dict[str, str]:
    """The table as CSV and Markdown, and the figure; nothing without lines."""
    if not lines:
        return {}
    found = rows(lines)
    shown = [name for name in found[0] if any(row[name] not in (None, "") for row in found)]
    return {
        "deepspeed.csv": to_csv(found),
        "deepspeed.md": markdown_table(found, shown) + "\n",
        "deepspeed.html": figure(lines).to_html(full_html=True, include_plotlyjs=True),
    }


def table(lines: Sequence[Line], title: str) -> Table:
    """What fits a terminal; the files have more."""
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    on_gpu = any("gpu_peak_mb" in numbers(line) for line in lines)
    made.add_column("configuration")
    for heading in (
        "ranks",
        "train loss",
        "eval loss\nby epoch",
        "samples/s\ntrain, eval",
        "tokens/s",
        "steps an\nepoch",
    ):
        made.add_column(heading, justify="right")
    if on_gpu:
        made.add_column("GPU MiB peak (planned)\nmean / least / torch", justify="right")
    for heading in ("host MiB peak (planned)\nmean", "wall\nseconds", "speed-up\n(efficiency)"):
        made.add_column(heading, justify="right")
    for line in lines:
        if line.row.outcome == "completed":
            made.add_row(*_cells(line, on_gpu))
        else:
            made.add_row(line.row.configuration.name, line.row.scale.name, line.row.outcome)
    return made


def _cells(line: Line, on_gpu: bool) -> Iterator[str]:
    row, known = line.row, numbers(line)
    yield row.configuration.name
    yield row.scale.name
    yield f"{known['train_loss']:.4f}"
    yield "\n".join(f"{loss:.4f}" for loss in row.measured["eval_losses"])
    yield f"{known['train_samples_per_second']:.1f}, {known['eval_samples_per_second']:.1f}"
    yield f"{known['train_tokens_per_second']:.0f}"
    yield f"{known['steps_per_epoch']:.0f}"
    if on_gpu:
        rest = " / ".join(f"{known[name]:.0f}" for name in ("gpu_mean_mb", "gpu_min_mb", "torch_peak_mb"))
        yield f"{known['gpu_peak_mb']:.0f} ({known['planned_device_mb']:.0f})\n{rest}"
    planned = known["planned_host_mb"] + (0 if on_gpu else known["planned_device_mb"])
    yield f"{known['host_peak_mb']:.0f} ({planned:.0f})\n{known['host_mean_mb']:.0f}"
    yield f"{known['wall_seconds']:.0f}"
    yield f"{known['speed_up']:.2f} ({known['efficiency']:.0%})"


def plan_text(size: plan.ModelSize, wanted: Sequence[Configuration], at: Sequence[Scale], precision: Precision) -> str:
    """What model states will take, before anything runs; a line a number of ranks."""
    text = [f"{size.parameters:,} parameters; model states of a rank, MiB on the device (and on the host), planned:"]
    for scale in at:
        found = [
            (one.name, plan.plan_memory(size, one.stage, one.offload, precision, scale.ranks_per_node, scale.nodes))
            for one in wanted
        ]
        states = ", ".join(f"{name} {each.device_mb:.0f} ({each.host_mb:.0f})" for name, each in found)
        text.append(f"  {scale.name} ranks: {states}" if scale.ranks > 1 else f"  1 rank: {states}")
    return "\n".join(text)


def reasons(lines: Sequence[Line]) -> list[str]:
    """Why rows have no measurements, a sentence for all that share one."""
    by_reason: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        if line.row.reason:
            name = f"{line.row.configuration.name} ({line.row.scale.name})"
            by_reason.setdefault((line.row.outcome, line.row.reason), []).append(name)
    return [f"{outcome}: {', '.join(names)}: {reason}" for (outcome, reason), names in by_reason.items()]


def figure(lines: Sequence[Line]) -> go.Figure:
    """Samples a second, and memory beside what was planned, by configuration; a colour a scale."""
    done = [line for line in lines if line.row.outcome == "completed"]
    on_gpu = any("gpu_peak_mb" in numbers(line) for line in done)
    what = "GPU" if on_gpu else "host, a rank"
    made = make_subplots(rows=2, cols=1, subplot_titles=("training samples a second", f"peak memory ({what}), MiB"))
    for number, scale in enumerate(dict.fromkeys(line.row.scale for line in done)):
        here = [line for line in done if line.row.scale == scale]
        names = [line.row.configuration.name for line in here]
        look = {"name": scale.name, "legendgroup": scale.name, "marker_color": COLORS[number % len(COLORS)]}
        speed = [numbers(line)["train_samples_per_second"] for line in here]
        peak = [numbers(line)["gpu_peak_mb" if on_gpu else "host_peak_mb"] for line in here]
        made.add_bar(x=names, y=speed, row=1, col=1, **look)
        made.add_bar(x=names, y=peak, row=2, col=1, showlegend=False, **look)
        planned = [line.planned.device_mb + (0 if on_gpu else line.planned.host_mb) for line in here]
        made.add_scatter(
            x=names,
            y=planned,
            row=2,
            col=1,
            mode="markers",
            marker={"symbol": "line-ew-open", "size": 22},
            name=f"planned, {scale.name}",
            legendgroup=scale.name,
            marker_color=COLORS[number % len(COLORS)],
        )
    made.update_layout(template="plotly_white", height=700, barmode="group")
    return made
