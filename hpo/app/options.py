"""One table of commands and their options: the command line, MLproject and docs/options.md are made from it.

Nothing is parsed or imported here: a command names its function as text, so that `--help` needs neither Ray nor MLflow.
"""

from __future__ import annotations

from dataclasses import fields, replace

from benchmarks.spec import SPLITS
from benchmarks.zero.settings import Training
from hpo.app.command import Command as Command
from hpo.app.command import Option as Option
from hpo.app.tables.clusters import HQ, SLURM
from hpo.app.tables.shared import (
    BENCHMARK,
    BUDGET,
    EXPERIMENT,
    FORCE,
    GPU_HOURS,
    PLAN,
    RECORDING_OPTIONS,
    RUN_ID,
    SEED,
    SPACE,
)

STUDY_OPTIONS = (BENCHMARK, BUDGET, SEED, SPACE, GPU_HOURS, EXPERIMENT, PLAN)
"""Options of every method."""
SUITE_OPTIONS = (
    Option("methods", "comma list; arguments as asha:searcher=optuna, another budget as random:budget=24", "all"),
    Option("seeds", "comma list", "0,1,2"),
    BENCHMARK,
    replace(BUDGET, help="full trainings of each study"),
    SPACE,
    replace(GPU_HOURS, help="cap of each study in device-hours"),
    Option("reference", "the method that the others are to be compared with; all for every pair", "random"),
    Option("looks", "times that the results may be looked at while they grow", "1", "integer"),
    replace(PLAN, help="file of the plan: written if there is none yet, else it decides over the options before it"),
    FORCE,
    EXPERIMENT,
)
SMALL_SUITE = {"methods": "random,asha,bohb,pbt", "seeds": "0", "budget": "4"}
"""Defaults of `mlflow run .`: minutes on two cores."""
DEEPSPEED_OPTIONS = (
    replace(BENCHMARK, help="name or YAML path; its model and data"),
    *(
        Option(
            option.name,
            option.metadata["help"],
            str(option.default),
            "integer" if isinstance(option.default, int) else "number",
        )
        for option in fields(Training)
        if option.name != "benchmark"
    ),
    Option("configurations", "comma list, such as plain,zero3-offload", "all"),
    Option("ranks", "ranks of a node, a comma list for scaling", "1", "counts"),
    Option("nodes", "nodes of a SLURM job, likewise", "1", "counts"),
    Option(
        "scaling",
        "strong keeps examples and global batch, weak keeps both for each rank",
        "strong",
        choices=("strong", "weak", "both"),
    ),
    Option("precision", "arithmetic; auto takes the device's", "auto", choices=("auto", "fp32", "bf16", "fp16")),
    Option("launcher", "program that starts the ranks", "torchrun", choices=("torchrun", "deepspeed")),
    Option("output", "folder for table, figure and logs", "deepspeed"),
    EXPERIMENT,
)

STUDIES = (
    Command(
        "run",
        "run one study: a method on a benchmark",
        "commands.run",
        (Option("method", "see `python -m hpo methods`", None, is_positional=True), *STUDY_OPTIONS),
    ),
    Command(
        "resume",
        "resume a study that was interrupted",
        "commands.resume",
        (replace(RUN_ID, help="its run in MLflow (default: list the unfinished studies)"),),
        is_entry=True,
    ),
    Command(
        "sync",
        "deliver the results that the store did not take while studies ran",
        "commands.sync",
        (replace(RUN_ID, help="a study's run in MLflow (default: all that wait)"),),
        is_entry=True,
    ),
    Command("suite", "run several methods with several seeds", "commands.suite", SUITE_OPTIONS, is_entry=True),
    Command(
        "confirm",
        "train the studies' incumbents again, and score them on the test split",
        "comparison_commands.confirm",
        (
            BENCHMARK,
            Option("methods", "comma list of stored methods", "all"),
            Option("repeats", "fresh seeds of each", "5", "integer"),
            Option("along", "confirm the incumbents at a quarter and half of the budget too", "false", "flag"),
            GPU_HOURS,
            EXPERIMENT,
        ),
        is_entry=True,
    ),
    Command(
        "compare",
        "set the methods of one benchmark or several side by side, with a report",
        "comparison_commands.compare",
        (
            replace(
                BENCHMARK,
                help="name or YAML path; several as a comma list or given again, all for every one that has results",
                kind="texts",
            ),
            Option("budget", "only studies of this budget (default: the one there is)", kind="count"),
            Option("mixed_budgets", "compare studies of different budgets, and say so", "false", "flag"),
            Option(
                "reference",
                "compare the others with this method; all for every pair, which takes more seeds (default: the plan's, "
                "or random)",
            ),
            replace(PLAN, help="file of the plan to set it beside (default: the one that its studies ran under)"),
            Option("max_gpu_hours", "also name the best trial that cost no more device-hours", kind="number"),
            Option("max_memory_mb", "also name the best trial that took no more memory, in MiB", kind="number"),
            Option("output", "folder for tables and report", "results"),
            EXPERIMENT,
        ),
        is_entry=True,
    ),
    Command(
        "export",
        "write the winning configuration as files for a Trainer script",
        "comparison_commands.export",
        (
            BENCHMARK,
            Option("method", "a method as compare names it; best takes the best confirmed one", "best"),
            Option("budget", "choose the best among studies of this budget (default: the one there is)", kind="count"),
            Option("output", "folder for the files", "exported"),
            EXPERIMENT,
        ),
        is_entry=True,
    ),
    Command(
        "train",
        "train an exported configuration to the end, and save the model",
        "commands.train",
        (
            Option("config", "folder of an export, or its best_config.json", "exported"),
            BENCHMARK,
            *(Option(f"data_{split}", f"SQuAD v1.1 JSON in place of the {split} split") for split in SPLITS),
            replace(SEED, help="drives everything random (default: the study's)", default="", kind="count"),
            Option("output", "folder for the model", "trained"),
            EXPERIMENT,
        ),
        is_entry=True,
    ),
    Command(
        "deepspeed",
        "train one Trainer script with and without DeepSpeed, ZeRO stage by stage",
        "commands.deepspeed",
        DEEPSPEED_OPTIONS,
        is_entry=True,
    ),
    Command(
        "import",
        "bring a study that was run elsewhere into the store, from a CSV file",
        "commands.import_",
        (
            Option("file", "see docs/import.md", None, is_positional=True),
            replace(BENCHMARK, default=None),
            Option("method", "a label of your own", None),
            replace(SEED, help="its seed, the block it belongs to"),
            Option("accelerator", "device it ran on, such as 'Tesla V100'; cpu counts no GPU hours", None),
            Option(
                "precision", "arithmetic of its trials (default: the benchmark's)", choices=("fp32", "bf16", "fp16")
            ),
            Option("wall_seconds", "how long it took (default: the sum of its trials)", kind="number"),
            Option("devices", "devices it had reserved; needs --wall-seconds", kind="count"),
            Option("space", "YAML file with the search space that it searched"),
            replace(FORCE, help="store a file again that is stored already"),
            EXPERIMENT,
        ),
    ),
    Command(
        "fetch",
        "bring model and data from the hub, for nodes without internet",
        "commands.fetch",
        (replace(BENCHMARK, default=None), Option("output", "folder that the compute nodes reach", None)),
        is_entry=True,
    ),
)
PAGES = (
    Command(
        "methods",
        "list the methods, or print the page of one",
        "page_commands.methods",
        (Option("name", "a method", is_positional=True),),
    ),
    Command("benchmarks", "list the benchmarks", "page_commands.benchmarks"),
    Command("doctor", "print this machine's versions, devices and faults", "page_commands.doctor"),
    Command("mlproject", "print the MLproject file", "page_commands.mlproject"),
    Command(
        "reference",
        "print every command and option, or write each generated page of docs/",
        "page_commands.reference",
        (Option("output", "folder of the pages (default: print options.md)"),),
    ),
)
WORKSHOP = (
    Command(
        "workshop table",
        "fill the result tables of a workshop chapter from your studies",
        "page_commands.workshop_table",
        (
            Option("chapter", "its number, 1 to 9", None, "count", is_positional=True),
            BENCHMARK,
            Option("output", "folder for the tables", "workshop"),
            EXPERIMENT,
        ),
    ),
    Command(
        "workshop notebooks",
        "write the chapters as Jupyter notebooks",
        "page_commands.workshop_notebooks",
        (Option("output", "folder for the notebooks", "notebooks"),),
    ),
)
BANKS = (
    Command(
        "bank record",
        "record full trainings of many configurations with several seeds",
        "bank_commands.record",
        (
            BENCHMARK,
            *RECORDING_OPTIONS,
            Option("devices", "trainings at once (default: as many as fit)", kind="count"),
        ),
    ),
    Command(
        "bank card",
        "write the card of a bank anew, with the check of a model of its curves",
        "bank_commands.card",
        (
            Option("bank", "name of a shipped bank, or path of a Parquet file", "nano"),
            replace(
                BENCHMARK, help="name or YAML path of the benchmark that was recorded (default: the bank's)", default=""
            ),
        ),
    ),
    Command(
        "bank collect",
        "turn the store's studies of a benchmark into a bank",
        "bank_commands.collect",
        (BENCHMARK, Option("output", "folder of bank and card; a bank there is extended", "banks"), EXPERIMENT),
    ),
    Command(
        "bank import",
        "make a bank of trainings of another program",
        "bank_commands.import_",
        (
            Option("file", "CSV as docs/import.md describes it, or opda's JSON lines", None, is_positional=True),
            Option("format", "of the file", "csv", choices=("csv", "opda")),
            replace(BENCHMARK, help="name or YAML path, for CSV", default=""),
            replace(SEED, help="seed of the trainings, for CSV", kind="count"),
            Option("accelerator", "device they ran on, such as 'Tesla V100', for CSV"),
            Option("units", "units of a training, each an equal share of its steps, for opda", "9", "integer"),
            Option("licence", "of the figures, such as CC-BY-SA-4.0; required for opda"),
            Option("output", "folder of bank and card; a CSV file extends a bank there", "banks"),
        ),
    ),
    Command(
        "bank export",
        "write a bank as a blackbox of Syne Tune",
        "bank_commands.export",
        (
            Option("bank", "name of a shipped bank, or path of a Parquet file", "nano"),
            Option("seeds", "trainings of each configuration; those with fewer are left out", "1", "integer"),
            Option("output", "new folder for the files", "blackbox"),
        ),
    ),
    Command(
        "replay",
        "replay studies on a virtual clock, from a bank of recorded trainings",
        "bank_commands.replay",
        (
            replace(BENCHMARK, help="name or YAML path of a recorded benchmark", default="nano_recorded"),
            SUITE_OPTIONS[0],
            Option("seeds", "comma list, or a range such as 0..199", "0..99"),
            Option("budgets", "full trainings of each study, likewise", "12"),
            Option("devices", "devices of each study", "2", "integer"),
            Option("repeats", "trainings of each incumbent with fresh seeds", "3", "integer"),
            Option(
                "accelerator",
                "take the recorded seconds of this accelerator, such as cpu (default: of each training)",
                "",
            ),
            Option("seconds_of", "name or file of another bank of the benchmark, whose seconds are taken", ""),
            SPACE,
            Option("processes", "studies at once (default: one per core)", kind="count"),
            Option("output", "folder of the studies' file and log; a replay there resumes", "replays"),
            EXPERIMENT,
        ),
        is_entry=True,
    ),
)
CERTIFY = Command(
    "certify",
    "check replays on a bank against real studies, which are run if the store lacks them",
    "bank_commands.certify",
    (
        replace(BENCHMARK, help="name or YAML path of the benchmark that was recorded"),
        Option("bank", "name of a shipped bank, or path of a Parquet file (default: the bank of the benchmark's name)"),
        SUITE_OPTIONS[0],
        Option("seeds", "real studies of each method, as 0,1,2 or 0..4; a certificate takes at least 5", "0..4"),
        replace(BUDGET, help="full trainings of each study"),
        Option("devices", "trials at once (default: as many as fit here; another number is refused)", kind="count"),
        Option("replays", "replays of each method, with seeds 0, 1, ...", "40", "integer"),
        EXPERIMENT,
    ),
    is_entry=True,
)
GROUPS = {
    "bank": "record trainings, and turn them into files",
    "workshop": "tables and notebooks of the workshop",
    "slurm": "submit studies to a SLURM cluster",
    "hq": "run many short trials with HyperQueue",
}
"""Groups of commands of two words."""
COMMANDS = (*STUDIES, *BANKS, CERTIFY, *PAGES, *WORKSHOP, *SLURM, *HQ)
