"""Options that several commands have."""

from __future__ import annotations

from dataclasses import replace

from hpo.app.command import Option

BENCHMARK = Option("benchmark", "name or YAML path", "nano")
BUDGET = Option("budget", "full trainings that may be spent", "12", "integer")
SEED = Option("seed", "drives everything random", "0", "integer")
SPACE = Option("space", "YAML file that replaces the search space")
GPU_HOURS = Option("gpu_hours", "cap in device-hours", kind="number")
FORCE = Option("force", "run finished studies of the store again", "false", "flag")
PLAN = Option("plan", "file of the plan of a comparison that it is run for")
EXPERIMENT = Option("experiment", "MLflow experiment to store in and read from (default: the benchmark's name)")
RUN_ID = Option("run_id", "the study's run in MLflow", is_positional=True)
CLUSTER = Option("cluster", "YAML file of the cluster profile, see slurm/README.md", None)
JOB_CLUSTER = replace(CLUSTER, help="YAML file of the cluster profile", default="")
DRY_RUN = Option("dry_run", "print the job scripts instead", kind="switch")
STUDY = Option("study", "the study's folder, among the logs", None, is_positional=True)
RECORDING_OPTIONS = (
    Option("configs", "configurations: the default, the grid, then a random sample", "400", "integer"),
    Option("seeds", "trainings of each, with seeds 0, 1, ...", "3", "integer"),
    Option("dense", "more configurations, where searchers go by a model of the others", "0", "integer"),
    Option("hours", "time after which no other training begins (default: no limit)", kind="number"),
    Option("output", "folder of bank, log and card; a recording there resumes", "banks"),
)
"""Options of every recording of a bank."""
