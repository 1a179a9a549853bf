"""The commands of clusters, `python -m hpo slurm ...` and `python -m hpo hq ...`, and their options."""

from __future__ import annotations

from dataclasses import replace

from hpo.app.command import Command, Option
from hpo.app.tables.shared import BENCHMARK, CLUSTER, DRY_RUN, EXPERIMENT, JOB_CLUSTER, RECORDING_OPTIONS, STUDY

WHAT = Option("what", "", None, is_positional=True)
RECORDING = (
    Option("tasks", "tasks of the array, each of which records a part", "16", "integer"),
    BENCHMARK,
    *RECORDING_OPTIONS,
)
SLURM = (
    Command(
        "slurm submit",
        "submit a study, or with `suite`, `confirm` or `resume` one of these",
        "clusters.slurm_commands.submit",
        (
            CLUSTER,
            replace(DRY_RUN, help="print the job script instead"),
            replace(WHAT, help="a method, `suite`, `confirm` or `resume`, followed by its own options"),
        ),
        passes_on=True,
    ),
    Command(
        "slurm array",
        "without Ray: a job for each trial of random search, Optuna or a grid",
        "clusters.slurm_commands.array",
        (
            Option("at_once", "tasks at once at most; 0 for no limit", "0", "integer"),
            Option("batch", "in batches of so many, each after the one before it; 0 for none", "0", "integer"),
            CLUSTER,
            DRY_RUN,
            replace(WHAT, help="manual, random, default or optuna, followed by its own options"),
        ),
        passes_on=True,
    ),
    Command(
        "slurm serial",
        "without Ray: one job that trains one trial after the other",
        "clusters.slurm_commands.serial",
        (CLUSTER, DRY_RUN, replace(WHAT, help="manual, random, default or optuna, followed by its own options")),
        passes_on=True,
    ),
    Command(
        "slurm resume",
        "train the trials of an array or a serial job that have no result",
        "clusters.slurm_commands.resume",
        (CLUSTER, STUDY),
    ),
    Command(
        "slurm capacity",
        "say how many trials run at once, and which resource limits them",
        "clusters.slurm_commands.capacity",
        (CLUSTER, BENCHMARK),
    ),
    Command(
        "slurm doctor",
        "compare a compute node with this one, through a job",
        "clusters.slurm_commands.doctor",
        (CLUSTER,),
    ),
    Command(
        "slurm collect",
        "add results to the store that jobs could not add themselves, from their logs of events",
        "clusters.slurm_commands.collect",
        (CLUSTER, Option("incomplete", "also arrays in which trials have no result", kind="switch")),
    ),
    Command(
        "slurm record",
        "record a bank as an array of jobs, and gather it",
        "clusters.recording_commands.record",
        (CLUSTER, *RECORDING, DRY_RUN),
    ),
    Command(
        "slurm record-task",
        "be a task of a recording",
        "clusters.recording_commands.task",
        (JOB_CLUSTER, *RECORDING),
        is_internal=True,
    ),
    Command(
        "slurm record-gather",
        "end a recording",
        "clusters.recording_commands.gather",
        (JOB_CLUSTER, *RECORDING),
        is_internal=True,
    ),
    Command(
        "slurm head",
        "be the head job",
        "clusters.slurm_commands.head",
        (
            JOB_CLUSTER,
            Option("from_environment", "as head_node.slurm has it, see slurm/jobs/environment.py", kind="switch"),
            Option("words", "arguments of `python -m hpo`, after --", kind="rest", is_positional=True),
        ),
        is_internal=True,
    ),
    Command(
        "slurm worker",
        "be a worker job",
        "clusters.slurm_commands.worker",
        (
            Option("connection", "the head job's connection file", None),
            Option("cpus", "CPU cores for trials", None, "integer"),
            Option("gpus", "GPUs for trials", None, "integer"),
        ),
        is_internal=True,
    ),
    Command(
        "slurm task", "be a task of an array", "clusters.slurm_commands.task", (JOB_CLUSTER, STUDY), is_internal=True
    ),
    Command(
        "slurm serial-job",
        "be a serial job",
        "clusters.slurm_commands.serial_job",
        (JOB_CLUSTER, STUDY),
        is_internal=True,
    ),
    Command(
        "slurm gather-job", "end an array", "clusters.slurm_commands.gather_job", (JOB_CLUSTER, STUDY), is_internal=True
    ),
    Command(
        "slurm doctor-job",
        "describe this node",
        "clusters.slurm_commands.doctor_job",
        (Option("mark", "file beside which to write the description", None),),
        is_internal=True,
    ),
)
HQ_OPTIONS = (
    Option("workers", "trials at once (default: one for each core)", kind="integer"),
    Option("per_task", "trials that a task trains, one after the other", "1", "integer"),
    replace(CLUSTER, help="YAML file of a cluster profile: run as a job of SLURM (default: run here)", default=""),
    EXPERIMENT,
)
HQ = (
    Command(
        "hq submit",
        "many short trials of random search or a grid, as tasks of HyperQueue",
        "clusters.hq_commands.submit",
        (
            *HQ_OPTIONS,
            Option("output", "folder in which the study's folder is made (with a cluster: among its logs)", "hq"),
            replace(WHAT, help="manual, random or default, followed by its own options"),
        ),
        passes_on=True,
    ),
    Command(
        "hq resume",
        "train the trials of such a study that have no result, and store it",
        "clusters.hq_commands.resume",
        (*HQ_OPTIONS, replace(STUDY, help="the study's folder")),
    ),
    Command(
        "hq job",
        "be the job of such a study",
        "clusters.hq_commands.job",
        (JOB_CLUSTER, *HQ_OPTIONS[:2], STUDY),
        is_internal=True,
    ),
)
