"""The text of the MLproject file, made from the methods: `python -m hpo mlproject > MLproject`.

MLflow quotes values for the shell itself; a `{x}` within quotes would undo that. Parameters that a command does
not use are ignored by MLflow without a word, so commands and parameters are made from one list.
"""

from __future__ import annotations

from dataclasses import fields

from benchmarks.zero.settings import Training
from hpo.search import registry

COMMON = {
    "benchmark": ("string", "nano"),
    "budget": ("string", "12"),
    "seed": ("string", "0"),
    "space": ("string", '""'),
    "gpu_hours": ("string", '""'),
}
SUITE = {
    "methods": ("string", "all"),
    "seeds": ("string", '"0,1,2"'),
    **{name: COMMON[name] for name in ("benchmark", "budget", "space", "gpu_hours")},
    "force": ("string", '"false"'),
}
CONFIRM = {
    "benchmark": COMMON["benchmark"],
    "methods": ("string", "all"),
    "repeats": ("string", "5"),
    "gpu_hours": COMMON["gpu_hours"],
}
COMPARE = {
    "benchmark": COMMON["benchmark"],
    "budget": ("string", '""'),
    "mixed_budgets": ("string", '"false"'),
    "reference": ("string", "all"),
    "max_gpu_hours": ("string", '""'),
    "max_memory_mb": ("string", '""'),
    "output": ("string", "results"),
}
EXPORT = {
    "benchmark": COMMON["benchmark"],
    "method": ("string", "best"),
    "output": ("string", "exported"),
}
TRAIN = {
    "config": ("string", "exported"),
    "benchmark": COMMON["benchmark"],
    "data_train": ("string", '""'),
    "data_validation": ("string", '""'),
    "data_test": ("string", '""'),
    "seed": ("string", '""'),
    "output": ("string", "trained"),
}
DEEPSPEED = {
    "benchmark": COMMON["benchmark"],
    "configurations": ("string", "all"),
    "ranks": ("string", '"1"'),
    "nodes": ("string", '"1"'),
    "scaling": ("string", "strong"),
    **{option.name: ("string", f'"{option.default}"') for option in fields(Training) if option.name != "benchmark"},
    "precision": ("string", "auto"),
    "launcher": ("string", "torchrun"),
    "output": ("string", "deepspeed"),
}
SMALL = {"methods": ("string", '"random,asha,bohb,pbt"'), "seeds": ("string", '"0"'), "budget": ("string", "4")}
"""What `mlflow run .` runs: minutes on two cores."""
HEADER = """\
# Made by `python -m hpo mlproject`; one entry a method. Change hpo/methods/, not this file.
name: hpo-llm-finetuning

python_env: python_env.yaml

entry_points:
"""


def text() -> str:
    """The whole file."""
    entries = [_entry("main", {**SUITE, **SMALL}, "python -m hpo suite")]
    entries += [_method_entry(registry.get(name)) for name in registry.names()]
    entries.append(_entry("resume", {"run_id": ("string", '""')}, "python -m hpo resume", "-- {run_id}"))
    entries.append(_entry("suite", SUITE, "python -m hpo suite"))
    entries.append(_entry("confirm", CONFIRM, "python -m hpo confirm"))
    entries.append(_entry("compare", COMPARE, "python -m hpo compare"))
    entries.append(_entry("export", EXPORT, "python -m hpo export"))
    entries.append(_entry("train", TRAIN, "python -m hpo train"))
    entries.append(_entry("deepspeed", DEEPSPEED, "python -m hpo deepspeed"))
    return HEADER + "\n".join(entries)


def _method_entry(method: registry.Method) -> str:
    own = {name: ("string", f'"{field.default}"') for name, field in method.arguments.model_fields.items()}
    return _entry(method.name, {**COMMON, **own}, f"python -m hpo run {method.name}")


def _entry(name: str, parameters: dict[str, tuple[str, str]], command: str, words: str = "") -> str:
    lines = [f"  {name}:", "    parameters:"]
    lines += [f"      {key}: {{type: {kind}, default: {default}}}" for key, (kind, default) in parameters.items()]
    words = words or " ".join(f"--{key.replace('_', '-')} {{{key}}}" for key in parameters)
    return "\n".join([*lines, f'    command: "{command} {words}"']) + "\n"
