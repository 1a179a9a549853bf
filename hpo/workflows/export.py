"""What won, as files that other programs load: the configuration, Trainer's arguments, DeepSpeed's, and a model card.

The method is chosen by what was confirmed on test, the configuration within it by validation alone, as its studies
chose it: a test score picks no hyperparameters. Reads MLflow; imports neither Ray nor torch nor transformers.

`training_arguments.json` and `deepspeed.json` load as they are, from the folder they lie in::

    TrainingArguments(**json.load(open("training_arguments.json")))

and a Trainer with them repeats the training step for step, as long as nothing changed on the way. `lora.json`, where
LoRA won, holds the arguments of `peft.LoraConfig`. A schedule (of PBT or PB2) Trainer cannot follow; `schedule.json`
has it, and `hpo.workflows.train` follows it.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.space import Config
from benchmarks.spec import Benchmark, BenchmarkError, FineTune, Split
from benchmarks.steps import total_steps, warmup_steps
from benchmarks.training import lora
from hpo.analysis import records
from hpo.analysis.contestants import SCORE, Contestant, contestants
from hpo.analysis.records import Records
from hpo.analysis.studies import StudyRecord
from hpo.core.baselines import DEFAULT, RANDOM
from hpo.core.study import is_better
from hpo.core.text_tables import markdown_table
from hpo.core.wording import counted
from hpo.terminal import files as output

BEST = "best"
CONFIG_FILE = "best_config.json"
ARGUMENTS_FILE = "training_arguments.json"
DEEPSPEED_FILE = "deepspeed.json"
LORA_FILE = "lora.json"
LENGTH_GROUPED = {"train_sampling_strategy": "group_by_length"}
CHECKPOINTING = {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}}
SCHEDULE_FILE = "schedule.json"
CARD_FILE = "MODEL_CARD.md"
FILES = (CONFIG_FILE, ARGUMENTS_FILE, DEEPSPEED_FILE, LORA_FILE, SCHEDULE_FILE, CARD_FILE)
TRAINER_OUTPUT = "trainer_output"
LR_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
"""Trainer's names; its "constant" has no warm-up."""
WITHOUT_BF16 = re.compile(r"\b([VP]100|P40?|T4|[KM]\d0|GTX|RTX 20\d\d|Quadro RTX|TITAN|T\d{3,4})\b")
"""Names of GPUs of compute capability below 8, on which "auto" takes fp16."""
BLOCKS_TO_SHOW = 6
"""Blocks below which no difference can reach 0.05, see docs/protocol.md."""


@dataclass(frozen=True)
class Choice:
    """What is exported.

    Attributes:
        contestant: the method that won, or that was asked for.
        study: of its studies the one whose incumbent is best on validation.
        rivals: confirmed contestants it was chosen from, itself included; 0 where it was asked for by name.
    """

    contestant: Contestant
    study: StudyRecord
    rivals: int = 0

    @property
    def best(self) -> dict[str, Any]:
        """The content of `best_config.json`."""
        assert self.study.best is not None
        return self.study.best


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        files: names, in order of writing.
        choice: what they describe.
        is_confirmed: whether the method's studies are all confirmed.
    """

    folder: Path
    files: tuple[str, ...]
    choice: Choice
    is_confirmed: bool


def export(benchmark: str, method: str, folder: Path) -> Exported:
    """Write what won on a benchmark into a folder.

    Args:
        benchmark: its name.
        method: "best", or a contestant as `compare` names it, such as "asha searcher=optuna".
        folder: made if need be; files of an earlier export are replaced, others stay.

    Raises:
        BenchmarkError: nothing is stored, nothing is confirmed, no such method, or the folder cannot be written.
    """
    stored = records.read(benchmark)
    stored.require_readable(None if method == BEST else method.partition(" budget=")[0])
    choice = choose(stored, method)
    texts = render(stored, choice)
    if (folder / CONFIG_FILE).is_file():  # a schedule of an earlier export must not stand beside this one's files
        for name in set(FILES) - set(texts):
            with suppress(OSError):
                (folder / name).unlink()
    output.write(folder, texts)
    return Exported(folder, tuple(texts), choice, is_confirmed(choice.contestant, stored.benchmark))


def choose(stored: Records, method: str) -> Choice:
    """The method that is asked for, or won, and its best study.

    Args:
        stored: all that is stored of the benchmark.
        method: see `export`.

    Raises:
        BenchmarkError: nothing is confirmed, no such method, or none of its trials was sound.
    """
    found = [c for c in contestants(stored, stored.studies) if c.studies]
    if method == BEST:
        confirmed = [c for c in found if is_confirmed(c, stored.benchmark) and _sound_studies(c)]
        if not confirmed:
            raise BenchmarkError(
                f"no method of {stored.benchmark.name} has all its studies confirmed, and the best one is told by what "
                f"was confirmed; run first: python -m hpo confirm --benchmark {stored.benchmark.name}"
            )
        winner = max(confirmed, key=lambda c: confirmed_score(c, stored.benchmark))
        return Choice(winner, best_study(winner, stored.benchmark), len(confirmed))
    named = next((c for c in found if c.name == method), None)
    if named is None:
        names = ", ".join(repr(c.name) for c in found)
        raise BenchmarkError(f"method is {method!r}, but must be {BEST!r} or one that has studies: {names}")
    return Choice(named, best_study(named, stored.benchmark))


def is_confirmed(contestant: Contestant, benchmark: Benchmark) -> bool:
    """Whether every study has a confirmed score; one without a sound trial has the worst there is."""
    return set(contestant.studies) <= set(contestant.scores(SCORE, benchmark))


def confirmed_score(contestant: Contestant, benchmark: Benchmark, metric: str = SCORE) -> float:
    """The mean over blocks of the mean over a block's confirmations, in the metric's unit."""
    return fmean(contestant.scores(metric, benchmark).values())


def best_study(contestant: Contestant, benchmark: Benchmark) -> StudyRecord:
    """The study whose incumbent is best on validation, among those that got furthest.

    Raises:
        BenchmarkError: no trial of any study was sound.
    """
    sound = _sound_studies(contestant)
    if not sound:
        raise BenchmarkError(
            f"no trial of {contestant.name} on {benchmark.name} was sound, so there is no configuration to export; "
            "look at the reasons in trials.csv, or export another method"
        )
    furthest = max(_units(study) for study in sound)
    chosen: StudyRecord | None = None
    for study in (study for study in sound if _units(study) == furthest):
        if chosen is None or is_better(benchmark, _validation(study, benchmark), _validation(chosen, benchmark)):
            chosen = study
    assert chosen is not None
    return chosen


def _sound_studies(contestant: Contestant) -> list[StudyRecord]:
    return [study for _, study in sorted(contestant.studies.items()) if study.best is not None]


def _units(study: StudyRecord) -> int:
    assert study.best is not None
    return int(study.best["units"])


def _validation(study: StudyRecord, benchmark: Benchmark) -> float:
    assert study.best is not None
    return float(study.best["metrics"][benchmark.metric])


# ---- the files


def render(stored: Records, choice: Choice) -> dict[str, str]:
    """The files' texts, by name."""
    benchmark, best = stored.benchmark, choice.best
    contents: dict[str, Any] = {CONFIG_FILE: best}
    if benchmark.finetune is not None:
        accelerator = choice.study.tags.get("hpo.accelerator", "")
        contents[ARGUMENTS_FILE] = training_arguments(benchmark, best["config"], best["seed"], accelerator)
        contents[DEEPSPEED_FILE] = deepspeed_config(benchmark.finetune)
        if (hp := benchmark.hyperparameters(best["config"])).lora_rank:
            contents[LORA_FILE] = lora.settings(hp)
    if "schedule" in best:
        contents[SCHEDULE_FILE] = best["schedule"]
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}
    return {**texts, CARD_FILE: model_card(stored, choice, tuple(texts))}


def training_arguments(benchmark: Benchmark, config: Config, seed: int, accelerator: str) -> dict[str, Any]:
    """Keyword arguments for `transformers.TrainingArguments` that train as a trial of the benchmark does.

    Args:
        benchmark: one with a `finetune` block.
        config: hyperparameters over the benchmark's default.
        seed: drives data order and dropout.
        accelerator: what the trial ran on, "cpu" or a GPU's name; it settles the precision "auto".
    """
    assert benchmark.finetune is not None
    hp, steps = benchmark.hyperparameters(config), num_steps(benchmark, config)
    precision = _precision(benchmark.finetune, accelerator)
    return {
        "output_dir": TRAINER_OUTPUT,
        "deepspeed": DEEPSPEED_FILE,
        "max_steps": steps,
        "per_device_train_batch_size": hp.batch_size_per_device,
        "gradient_accumulation_steps": hp.gradient_accumulation_steps,
        "learning_rate": hp.learning_rate,
        "lr_scheduler_type": LR_SCHEDULERS[hp.lr_scheduler],
        "warmup_steps": warmup_steps(steps, hp),
        "optim": "adamw_torch_fused",
        "weight_decay": hp.weight_decay,
        "adam_beta1": hp.adam_beta1,
        "adam_beta2": hp.adam_beta2,
        "adam_epsilon": hp.adam_epsilon,
        "max_grad_norm": hp.max_grad_norm,
        "average_tokens_across_devices": True,
        **(CHECKPOINTING if hp.gradient_checkpointing else {}),
        **(LENGTH_GROUPED if benchmark.finetune.length_grouped else {}),
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "seed": seed,
        "per_device_eval_batch_size": benchmark.finetune.eval_batch_size,
        **({"use_cpu": True} if accelerator == "cpu" else {}),
    }


def num_steps(benchmark: Benchmark, config: Config) -> int:
    """Optimizer steps of a full training."""
    return total_steps(benchmark, benchmark.hyperparameters(config))


def _precision(finetune: FineTune, accelerator: str) -> str:
    if finetune.precision != "auto":
        return finetune.precision
    return "fp32" if accelerator == "cpu" else "fp16" if WITHOUT_BF16.search(accelerator) else "bf16"


def deepspeed_config(finetune: FineTune) -> dict[str, Any]:
    """The benchmark's DeepSpeed configuration, with "auto" also where a trial fills in what the file leaves out.

    Trainer fills "auto" from its arguments and the model, but only where the key exists.
    """
    block = copy.deepcopy(finetune.deepspeed)
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping"):
        block.setdefault(key, "auto")
    for name in ("bf16", "fp16"):
        block.setdefault(name, {}).setdefault("enabled", "auto")
    return block


# ---- the card


def model_card(stored: Records, choice: Choice, files: Sequence[str]) -> str:
    """One page: what won, by how much, at what cost, on which data, how sure, and how to use it.

    Args:
        stored: all that is stored of the benchmark.
        choice: what is exported.
        files: names of the other files.
    """
    sections = {
        "Result": _result(stored, choice),
        "Cost": _cost(choice),
        "Data": _data(stored, choice),
        "How sure": _certainty(stored, choice),
        "How to use it": _usage(stored.benchmark, choice, files),
        "Hyperparameters": _hyperparameters(stored.benchmark, choice),
    }
    name = f"{stored.benchmark.name}: configuration found by {choice.contestant.name}"
    return f"# {escape(name)}\n" + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def escape(value: object) -> str:
    """A value as text of one line that Markdown shows as it is, in tables too."""
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", " ".join(str(value).split()))


def _result(stored: Records, choice: Choice) -> str:
    benchmark, winner, best = stored.benchmark, choice.contestant, choice.best
    names = {"eval_loss": "eval loss", "exact_match": "Exact Match", "f1": "F1"}
    shown = [f"{text} {best['metrics'][name]:.4f}" for name, text in names.items() if name in best["metrics"]]
    found = (
        f"Method **{escape(winner.name)}**, study with seed {choice.study.seed} (run {escape(choice.study.run_id)}). "
        f"Its incumbent on validation, which chose it: {', '.join(shown)} after {best['units']} of "
        f"{benchmark.resource.max_units} units. That is the best of many trials, so it flatters."
    )
    scores = winner.scores(SCORE, benchmark)
    if not is_confirmed(winner, benchmark):
        partly = f" ({len(scores)} of {len(winner.studies)} studies are)" if scores else ""
        return (
            f"{found}\n\n**Not confirmed**{partly}: there is no test score to go by. To get it:\n\n"
            f"```bash\npython -m hpo confirm --benchmark {benchmark.name}\n```"
        )
    return f"{found}\n\n{_confirmed(stored, choice)}"


def _confirmed(stored: Records, choice: Choice) -> str:
    """Test scores, and what they rest on."""
    benchmark, winner = stored.benchmark, choice.contestant
    scores = winner.scores(SCORE, benchmark)
    rows = [
        ["confirmed test F1 of the method", f"{confirmed_score(winner, benchmark):.4f}"],
        ["confirmed test Exact Match of the method", f"{confirmed_score(winner, benchmark, 'test_exact_match'):.4f}"],
        ["confirmed test F1 of this configuration", f"{scores[choice.study.seed]:.4f}"],
        *([f"test F1 minus {name}'s", _difference(stored, winner, name)] for name in (DEFAULT, RANDOM)),
    ]
    trainings = [training for of_block in winner.confirmations.values() for training in of_block]
    diverged = sum(training.diverged for training in trainings)
    return (
        f"{markdown_table(['Figure', 'Value'], rows)}\n\nConfirmed means trained again with fresh seeds: "
        f"{counted(len(trainings), 'training')} on {counted(len(scores), 'block')} "
        f"(seeds {', '.join(map(str, sorted(scores)))}), of which {diverged or 'none'} diverged. "
        "What diverged counts as 0."
    )


def _difference(stored: Records, winner: Contestant, name: str) -> str:
    """Mean difference in confirmed test F1 to another contestant, over the blocks that both have."""
    if winner.name == name:
        return "this is it"
    rivals = contestants(stored, stored.studies)
    rival = next((c for c in rivals if c.name == name), None)
    own = winner.scores(SCORE, stored.benchmark)
    other = rival.scores(SCORE, stored.benchmark) if rival else {}
    blocks = sorted(set(own) & set(other))
    if not blocks:
        return "not confirmed"
    difference = fmean(own[block] - other[block] for block in blocks)
    return f"{difference:+.4f} ({counted(len(blocks), 'block')})"


def _cost(choice: Choice) -> str:
    study, all_studies = choice.study, choice.contestant.studies.values()
    hours = sum(s.metrics.get("device_hours", 0.0) for s in all_studies)
    accelerator = escape(study.tags.get("hpo.accelerator", "unknown"))
    rows = [
        ["accelerator", accelerator],
        ["device-hours of this study", f"{study.metrics.get('device_hours', math.nan):.4g}"],
        [f"device-hours of all its method's studies ({len(all_studies)})", f"{hours:.4g}"],
        ["budget of this study", f"{study.budget} full trainings"],
        ["resource units it spent", f"{study.metrics.get('units', math.nan):g}"],
        ["trials", ", ".join(f"{number} {escape(outcome)}" for outcome, number in study.outcomes.items()) or "none"],
    ]
    return markdown_table(["Figure", "Value"], rows)


def _data(stored: Records, choice: Choice) -> str:
    benchmark = stored.benchmark
    rows = [
        ["benchmark", escape(benchmark.name)],
        ["description", escape(benchmark.description)],
        ["digest (model, data, resource, metric)", escape(stored.digest)],
        ["metric that chose", f"{benchmark.metric} ({benchmark.mode})".replace("_", r"\_")],
    ]
    if benchmark.finetune is not None:
        rows.append(["base model", escape(benchmark.finetune.model)])
        rows += [[name, escape(_split(split))] for name, split in benchmark.finetune.data]
    rows.append(["protocol", escape(choice.study.tags.get("hpo.protocol", ""))])
    return markdown_table(["What", "Which"], rows)


def _split(split: Split) -> str:
    named = f"{split.dataset}, configuration {split.config}" if split.config else split.dataset
    source = str(split.file) if split.file else f"{named}, split {split.split}"
    articles = "" if split.articles == "all" else f", articles {split.articles} ({split.held_out_share:g} held out)"
    return source + articles + (f", first {split.limit}" if split.limit else "")


def _certainty(stored: Records, choice: Choice) -> str:
    benchmark, winner = stored.benchmark, choice.contestant
    blocks = len(winner.scores(SCORE, benchmark))
    sentences = []
    if not is_confirmed(winner, benchmark):
        sentences.append("Nothing is known beyond the validation score: the method is not confirmed.")
    elif blocks < BLOCKS_TO_SHOW:
        sentences.append(
            f"With {counted(blocks, 'block')} it is **not resolved** whether the method is better than another: an "
            f"exact test at 0.05 takes {BLOCKS_TO_SHOW} that all agree. That is an answer, and no evidence of equality."
        )
    else:
        sentences.append(f'It rests on {blocks} blocks; a difference may still be "not resolved", which is an answer.')
    if choice.rivals > 1:
        sentences.append(
            f"It is the highest of {choice.rivals} confirmed methods by this very score, which flatters it."
        )
    sentences.append(f"Intervals and verdicts come from `python -m hpo compare --benchmark {benchmark.name}`.")
    return " ".join(sentences)


def _usage(benchmark: Benchmark, choice: Choice, files: Sequence[str]) -> str:
    if benchmark.finetune is None:
        return (
            f"This benchmark computes learning curves in closed form and trains no model, so there is `{CONFIG_FILE}` "
            f"and neither `{ARGUMENTS_FILE}` nor `{DEEPSPEED_FILE}`."
        )
    train = (
        "A full training, the model saved and scored on test once; in the suite's folder, with this folder's path:\n\n"
        f"```bash\npython -m hpo train --config THIS_FOLDER --benchmark {benchmark.name} --output trained\n```"
    )
    loads = (
        "Hugging Face Trainer, in this folder (the arguments name "
        f"`{DEEPSPEED_FILE}` by a relative path):\n\n"
        "```python\nimport json\nfrom transformers import TrainingArguments\n\n"
        f'arguments = TrainingArguments(**json.load(open("{ARGUMENTS_FILE}")))\n```'
    )
    return f"{train}\n\n{loads}\n\n{_caveats(benchmark, benchmark.finetune, choice, files)}"


def _caveats(benchmark: Benchmark, finetune: FineTune, choice: Choice, files: Sequence[str]) -> str:
    """What must hold for Trainer to repeat the training."""
    accelerator = choice.study.tags.get("hpo.accelerator", "")
    lines = [
        f"Start it with {counted(finetune.ranks_per_trial, 'process', 'processes')}, load the model in "
        f"fp32, and keep the data's order: sequences of at most {finetune.max_length} tokens, labels -100 on prompt "
        "and padding.",
        f"The precision is {_precision(finetune, accelerator)}, as it was on {escape(accelerator or 'the device')}.",
        f"{num_steps(benchmark, choice.best['config'])} steps are {benchmark.resource.total_samples} samples. Where "
        "the batch does not divide the data, Trainer's last batch of an epoch is smaller.",
    ]
    if LORA_FILE in files:
        lines.append(
            f"LoRA trained it: before Trainer gets the model, `transformers.set_seed(arguments.seed)` and then "
            f"`peft.get_peft_model(model, LoraConfig(**settings))`, with the settings in `{LORA_FILE}`, give it its "
            "updates, which begin with random numbers. `lora_dropout` above 0 draws others than the trial did."
        )
    if finetune.length_grouped:
        lines.append(
            "Batches were of similar lengths. Trainer makes such batches too, in an order of its own; it takes lengths "
            "from the column `input_ids`."
        )
    if SCHEDULE_FILE in files:
        lines.append(
            f"**A schedule won**: hyperparameters changed during the training as `{SCHEDULE_FILE}` says, and the "
            f"arguments hold the last ones alone. Trainer does not follow it; `python -m hpo train` does."
        )
    return "\n".join(f"- {line}" for line in lines)


def _hyperparameters(benchmark: Benchmark, choice: Choice) -> str:
    """Every hyperparameter that reached the trainer, by step of the schedule where one won."""
    schedule = choice.study.schedule or []
    columns = [benchmark.hyperparameters(config).model_dump() for _, config in schedule]
    searched = {name: "searched" if name in benchmark.space else "default" for name in Hyperparameters.model_fields}
    heads = ["Hyperparameter", "", *(f"from unit {units}" if len(schedule) > 1 else "Value" for units, _ in schedule)]
    rows = [
        [f"`{name}`", origin, *(escape(_number(column[name])) for column in columns)]
        for name, origin in searched.items()
    ]
    return markdown_table(heads, rows)


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
