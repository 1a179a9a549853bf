"""Sound inputs of every kind, which the cases change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MODEL = BENCHMARKS / "assets/nano/model"
SYNTHETIC: dict[str, Any] = yaml.safe_load((BENCHMARKS / "synthetic.yaml").read_text())
MANY_DOMAINS: dict[str, Any] = {
    "learning_rate": {"type": "loguniform", "low": 0.001, "high": 0.5},
    "batch_size_per_device": {"type": "int", "low": 1, "high": 64},
    "warmup_ratio": {"type": "uniform", "low": 0.0, "high": 0.5},
    "lr_scheduler": {"type": "choice", "values": ["linear", "cosine"]},
    "max_grad_norm": {"type": "choice", "values": [0, 0.5, 1.0]},
}
GRID: dict[str, Any] = {"learning_rate": [0.01, 0.1], "batch_size_per_device": [8, 16], "lr_scheduler": ["cosine"]}
WIDE: dict[str, Any] = {**SYNTHETIC, "space": MANY_DOMAINS, "grid": GRID}
CONTEXT = "Delft lies between Rotterdam and The Hague; its university was founded in 1842."
QUESTIONS: list[dict[str, Any]] = [
    {"id": "q1", "question": "Where is Delft?", "answers": [{"text": "between Rotterdam", "answer_start": 11}]},
    {"id": "q2", "question": "Since when?", "answers": [{"text": "1842", "answer_start": 74}]},
]
SQUAD: dict[str, Any] = {
    "version": "1.1",
    "data": [{"title": "Delft", "paragraphs": [{"context": CONTEXT, "qas": QUESTIONS}]}],
}
LINES: list[dict[str, Any]] = [
    {"id": "a", "title": "Delft", "context": CONTEXT, **QUESTIONS[0]},
    {"context": CONTEXT, "question": "Since when?", "answers": ["1842"]},
    {"context": CONTEXT, "question": "When?", "answers": {"text": ["1842"], "answer_start": [74]}},
]
DEEPSPEED: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "bf16": {"enabled": "auto"},
    "zero_optimization": {"stage": 1, "reduce_bucket_size": "auto", "overlap_comm": True},
    "steps_per_print": 100,
}
FINETUNE: dict[str, Any] = {
    **{key: value for key, value in WIDE.items() if key != "synthetic"},
    "finetune": {
        "model": str(MODEL),
        "data": {
            "train": {"file": "squad.json", "limit": 2, "articles": "rest", "held_out_share": 0.1},
            "validation": {"file": "lines.jsonl"},
            "test": {"file": "squad.json"},
        },
        "max_length": 160,
        "max_answer_tokens": 10,
        "ranks_per_trial": 1,
        "precision": "fp32",
        "deepspeed": DEEPSPEED,
    },
}
PROFILE: dict[str, Any] = {
    "partition": "gpu",
    "account": "me",
    "time": "1-04:00:00",
    "workers": {"count": 2, "directives": ["--constraint=a100", "--exclusive"]},
    "node": {"cpus": 64, "gpus": "a100:4", "memory": "480G"},
    "cpus_per_rank": 8,
    "cpus_for_ray": 4,
    "gpu_request": "gres",
    "head": {"cpus": 2, "memory": "8G", "partition": "login", "directives": ["--qos=short"]},
    "directives": ["--comment=ours"],
    "environment": {"modules": ["cuda"], "venv": "~/hpo", "lines": ["export A=b"], "after_modules": ["export C=d"]},
    "interface": "ib0",
    "address": "10.1.0.0/16",
    "layout": "jobs",
    "store": "mlflow.db",
    "logs": "logs",
    "grace_seconds": 60,
    "join_minutes": 10,
    "requeue": True,
}
ROWS = (
    (
        "trial",
        "unit",
        "learning_rate",
        "batch_size_per_device",
        "eval_loss",
        "f1",
        "seconds",
        "devices",
        "outcome",
        "reason",
    ),
    ("a", "3", "0.001", "8", "1.21", "0.44", "31.5", "2", "", ""),
    ("b", "3", "0.02", "16", "2.90", "0.05", "20.1", "2", "stopped", "worse than half of the others"),
    ("c", "1", "0.0005", "8", "", "", "12.0", "2", "failed", "CUDA out of memory"),
    ("a", "9", "0.001", "8", "0.83", "0.71", "63.0", "2", "completed", ""),
)
