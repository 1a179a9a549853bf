"""The model card of an exported configuration: one page in Markdown. Pure.

It names the method that won, its scores, its cost, its data and the certainty of all that, and says how to use the
files beside it, whose names are here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from statistics import fmean

from benchmarks.hyperparameters import Hyperparameters
from benchmarks.spec import Benchmark, FineTune, Split
from benchmarks.steps import total_steps
from benchmarks.tasks.task import LOSS, Metric
from hpo.analysis.choice import ExportChoice, confirmed_score, is_confirmed
from hpo.analysis.records import Records
from hpo.analysis.statistics.paired_tests import ALPHA
from hpo.core.text_tables import markdown_table
from hpo.core.wording import counted
from hpo.search import registry

CONFIG_FILE = "best_config.json"
ARGUMENTS_FILE = "training_arguments.json"
DEEPSPEED_FILE = "deepspeed.json"
LORA_FILE = "lora.json"
SCHEDULE_FILE = "schedule.json"
CARD_FILE = "MODEL_CARD.md"
FILES = (CONFIG_FILE, ARGUMENTS_FILE, DEEPSPEED_FILE, LORA_FILE, SCHEDULE_FILE, CARD_FILE)
MIN_BLOCKS = 6
"""Blocks below which no difference can reach 0.05, see docs/protocol.md."""


def model_card(stored: Records, choice: ExportChoice, files: Sequence[str]) -> str:
    """Write the page.

    Args:
        stored: all that is stored of the benchmark.
        choice: the configuration that is exported, with its method and study.
        files: names of the other files.
    """
    sections = {
        "Result": _result(stored, choice),
        "Cost": _cost(choice),
        "Data": _data(stored, choice),
        "How sure": _certainty(stored, choice),
        "How to use it": _usage(stored, choice, files),
        "Hyperparameters": _hyperparameters(stored.benchmark, choice),
    }
    name = f"{stored.benchmark.name}: configuration found by {choice.contestant.name}"
    return f"# {escape(name)}\n" + "".join(f"\n## {title}\n\n{text}\n" for title, text in sections.items())


def escape(value: object) -> str:
    """Write a value as text of one line that Markdown shows as it is, in tables too."""
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", " ".join(str(value).split()))


def _result(stored: Records, choice: ExportChoice) -> str:
    benchmark, winner, best = stored.benchmark, choice.contestant, choice.best
    known = [metric for metric in benchmark.metrics if metric.name in best["metrics"]]
    shown = [f"{escape(metric.title)} {best['metrics'][metric.name]:.4f}" for metric in known]
    found = (
        f"Method **{escape(winner.name)}**, study with seed {choice.study.seed} (run {escape(choice.study.run_id)}). "
        f"Its incumbent on validation, which chose it: {', '.join(shown)} after {best['units']} of "
        f"{benchmark.resource.max_units} units. That is the best of many trials, so it flatters."
    )
    if choice.study.model_share is not None:
        found += f" A model of earlier results proposed {choice.study.model_share:.0%} of that study's trials."
    scores = winner.scores(benchmark.verdict_metric)
    if not is_confirmed(winner, benchmark):
        partly = f" ({len(scores)} of {len(winner.studies)} studies are)" if scores else ""
        return (
            f"{found}\n\n**Not confirmed**{partly}: there is no test score to go by. To get it:\n\n"
            f"```bash\n{stored.confirm_command}\n```"
        )
    return f"{found}\n\n{_confirmed(stored, choice)}"


def _confirmed(stored: Records, choice: ExportChoice) -> str:
    """Show test scores, and the trainings that they rest on."""
    benchmark, winner = stored.benchmark, choice.contestant
    metric = benchmark.verdict_metric
    scores = winner.scores(metric)
    shown = [one for one in benchmark.test_metrics if one == metric or one.name != LOSS.name]
    baselines = registry.with_trait(lambda traits: traits.is_single_config)
    baselines += registry.with_trait(lambda traits: traits.is_reference)
    title = escape(metric.title)
    rows = [
        *(
            [f"confirmed test {escape(one.title)} of the method", f"{confirmed_score(winner, one):.4f}"]
            for one in shown
        ),
        *_corrected(choice, title),
        [f"confirmed test {title} of this configuration", f"{scores[choice.study.seed]:.4f}"],
        *([f"test {title} minus {name}'s", _difference(choice, metric, name)] for name in baselines),
    ]
    trainings = [training for of_block in winner.confirmations.values() for training in of_block]
    diverged = sum(training.diverged for training in trainings)
    return (
        f"{markdown_table(['Figure', 'Value'], rows)}\n\nConfirmed means trained again with fresh seeds: "
        f"{counted(len(trainings), 'training')} on {counted(len(scores), 'block')} "
        f"(seeds {', '.join(map(str, sorted(scores)))}), of which {diverged or 'none'} diverged. "
        f"A training that diverged counts as {metric.worst:g}."
    )


def _corrected(choice: ExportChoice, title: str) -> list[list[str]]:
    """Show the score by which the method was chosen from several, without the luck of having been chosen."""
    selection = choice.selection
    if selection is None or selection.num_rivals < 2:
        return []
    blocks = counted(len(selection.blocks), "block")
    chosen = [f"test {title} that chose it from {selection.num_rivals} methods ({blocks})", f"{selection.score:.4f}"]
    heading = "the same, corrected for having been chosen"
    if selection.corrected is None:
        return [chosen, [heading, "takes 2 blocks"]]
    return [chosen, [heading, f"{selection.corrected:.4f} ({selection.corrected - selection.score:+z.4f})"]]


def _difference(choice: ExportChoice, metric: Metric, name: str) -> str:
    """Average the difference in the confirmed score to another contestant over the blocks that both have."""
    winner = choice.contestant
    if winner.name == name:
        return "this is it"
    rival = next((c for c in choice.beside if c.name == name), None)
    own, other = winner.scores(metric), rival.scores(metric) if rival else {}
    blocks = sorted(set(own) & set(other))
    if not blocks:
        return "not confirmed"
    difference = fmean(own[block] - other[block] for block in blocks)
    return f"{difference:+z.4f} ({counted(len(blocks), 'block')})"


def _cost(choice: ExportChoice) -> str:
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


def _data(stored: Records, choice: ExportChoice) -> str:
    benchmark = stored.benchmark
    rows = [
        ["benchmark", escape(benchmark.name)],
        ["description", escape(benchmark.description)],
        ["digest (model, data, resource, metric)", escape(stored.digest)],
        ["metric that chose", f"{benchmark.metric} ({benchmark.mode})".replace("_", r"\_")],
    ]
    if benchmark.trial.model:
        rows.append(["base model", escape(benchmark.trial.model)])
    rows += [[name, escape(_split(split))] for name, split in benchmark.trial.splits.items()]
    rows.append(["protocol", escape(choice.study.tags.get("hpo.protocol", ""))])
    return markdown_table(["What", "Which"], rows)


def _split(split: Split) -> str:
    named = f"{split.dataset}, configuration {split.config}" if split.config else split.dataset
    source = str(split.file) if split.file else f"{named}, split {split.split}"
    articles = "" if split.articles == "all" else f", articles {split.articles} ({split.held_out_share:g} held out)"
    return source + articles + (f", first {split.limit}" if split.limit else "")


def _certainty(stored: Records, choice: ExportChoice) -> str:
    benchmark, winner = stored.benchmark, choice.contestant
    blocks = len(winner.scores(benchmark.verdict_metric))
    sentences = []
    if not is_confirmed(winner, benchmark):
        sentences.append("Nothing is known beyond the validation score: the method is not confirmed.")
    elif blocks < MIN_BLOCKS:
        sentences.append(
            f"With {counted(blocks, 'block')} it is **not resolved** whether the method is better than another: an "
            f"exact test at 0.05 takes {MIN_BLOCKS} that all agree. That is an answer, and no evidence of equality."
        )
    else:
        sentences.append(f'It rests on {blocks} blocks; a difference may still be "not resolved", which is an answer.')
    sentences += map(escape, choice_in_words(choice))
    sentences.append(f"Intervals and verdicts come from `{stored.command('compare')}`.")
    return " ".join(sentences)


def choice_in_words(choice: ExportChoice) -> list[str]:
    """Tell the methods that it was chosen from, what is shown of them, and which were no rivals, a sentence each."""
    selection = choice.selection
    if selection is None:
        return []
    sentences = []
    if selection.num_rivals > 1:
        listed = ", ".join(selection.not_worse) or "none"
        sentences = [
            f"It was chosen from {selection.num_rivals} methods by this very score, which flatters it"
            + "; for the corrected score half of the blocks choose and the other half reports."
            * (selection.corrected is not None)
            + "." * (selection.corrected is None),
            f"Methods that are not shown to be worse: {listed} (exact tests, Bonferroni, level {ALPHA:g}).",
        ]
    if selection.is_cheaper:
        sentences.append("Another score is better by less than the margin, and took more device-hours: cost decided.")
    return sentences + [f"{note[0].upper()}{note[1:]}." for note in choice.notes]


def _usage(stored: Records, choice: ExportChoice, files: Sequence[str]) -> str:
    benchmark = stored.benchmark
    if not benchmark.trial.trains_model:
        return (
            f"This benchmark computes learning curves in closed form and trains no model, so there is `{CONFIG_FILE}` "
            f"and neither `{ARGUMENTS_FILE}` nor `{DEEPSPEED_FILE}`."
        )
    train = (
        "A full training, the model saved and scored on test once; in the suite's folder, with this folder's path:\n\n"
        f"```bash\n{stored.command('train', config='THIS_FOLDER', output='trained')}\n```"
    )
    loads = (
        "Hugging Face Trainer, in this folder (the arguments name "
        f"`{DEEPSPEED_FILE}` by a relative path):\n\n"
        "```python\nimport json\nfrom transformers import TrainingArguments\n\n"
        f'arguments = TrainingArguments(**json.load(open("{ARGUMENTS_FILE}")))\n```'
    )
    return f"{train}\n\n{loads}\n\n{_caveats(benchmark, benchmark.training_settings(), choice, files)}"


def _caveats(benchmark: Benchmark, finetune: FineTune, choice: ExportChoice, files: Sequence[str]) -> str:
    """List the conditions under which Trainer repeats the training."""
    accelerator = choice.study.tags.get("hpo.accelerator", "")
    steps = total_steps(benchmark, benchmark.hyperparameters(choice.best["config"]))
    lines = [
        f"Start it with {counted(finetune.ranks_per_trial, 'process', 'processes')}, load the model in "
        f"fp32, and keep the data's order: sequences of at most {finetune.max_length} tokens, labels -100 on prompt "
        "and padding.",
        _precision(choice.precision(benchmark), escape(accelerator or "the device")),
        f"{steps} steps are {benchmark.resource.total_samples} samples. Where "
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


def _precision(precision: str, device: str) -> str:
    if precision:
        return f"The precision is {precision}, as it was on {device}."
    return (
        f"**The precision is not known**: the study was stored before precisions were, and `auto` depends on {device}. "
        f'Add `"bf16": true` or `"fp16": true` to `{ARGUMENTS_FILE}` if its trials computed so.'
    )


def _hyperparameters(benchmark: Benchmark, choice: ExportChoice) -> str:
    """Show every hyperparameter that reached the trainer, by step of the schedule if a schedule won."""
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
