"""Job scripts, whole: what is submitted is what is read here."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks.spec import BenchmarkError
from slurm import scripts, submit
from slurm.profile import Profile
from slurm.scripts import Places

REPOSITORY = Path(__file__).parents[2]
PLACES = Places(Path("/opt/hpo"), Path('/home/me/it\'s "mine"'), "/opt/venv/bin/python")
COMMAND = ["slurm", "head", "--cluster", "/home/me/my cluster.yaml", "--", "run", "asha", "--benchmark", "nano"]

HEAD = """\
#!/bin/bash
#SBATCH --job-name=hpo-asha
#SBATCH --output="/home/me/logs of 100%% \\"mine\\""/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --time=04:00:00
#SBATCH --nodes=1
#SBATCH --cpus-per-task=2
#SBATCH --signal=B:USR1@180
#SBATCH --requeue

cd '/home/me/it'"'"'s "mine"'
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec /opt/venv/bin/python -m hpo slurm head --cluster '/home/me/my cluster.yaml' -- run asha --benchmark nano
"""

WORKER = """\
#!/bin/bash -l
#SBATCH --job-name=hpo-asha-worker
#SBATCH --output="/logs"/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --time=8:00:00
#SBATCH --account=me
#SBATCH --partition=gpu
#SBATCH --nodes=1
#SBATCH --cpus-per-task=20
#SBATCH --mem=180G
#SBATCH --gres=gpu:8
#SBATCH --no-requeue
#SBATCH --constraint=v100

export HF_HOME=/scratch/hf
type module > /dev/null 2>&1 || { echo "error: there is no command module on $(hostname)" >&2; exit 1; }
module load cuda/12.4 || exit 1
eval "$(conda shell.bash hook)"
conda activate hpo || exit 1
cd /work
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec python -m hpo slurm worker --connection /logs/hpo-asha-7/connection.json
"""


def profile(**given: object) -> Profile:
    return Profile.model_validate({"node": {"cpus": 4}, "logs": "/logs", **given})


def test_the_head_job_s_script() -> None:
    """It asks for no GPU, and quotes survive sbatch and bash."""
    cluster = profile(logs='/home/me/logs of 100% "mine"')
    assert scripts.head(cluster, "hpo-asha", COMMAND, PLACES) == HEAD


def test_a_log_in_any_folder_is_watched_by_the_printed_command() -> None:
    shown = submit.watching(profile(logs="/home/me/my 'logs'"), "hpo-asha", "7")
    assert shlex.split(shown) == ["tail", "-F", "/home/me/my 'logs'/hpo-asha-7.out"]


def test_the_script_for_sbatch_alone_asks_for_a_profile_s_defaults() -> None:
    def asked(script: str) -> set[str]:
        lines = {line for line in script.splitlines() if line.startswith("#SBATCH")}
        return {line for line in lines if "--job-name" not in line and "--output" not in line}

    alone = (REPOSITORY / "slurm/head_node.slurm").read_text()
    assert asked(alone) == asked(scripts.head(profile(), "h", [], PLACES)) - {"#SBATCH --requeue"}


def test_a_worker_job_s_script() -> None:
    cluster = profile(
        account="me",
        partition="gpu",
        time="8:00:00",
        node={"cpus": 20, "gpus": 8, "memory": "180G"},
        directives=["--constraint=v100"],
        environment={"modules": ["cuda/12.4"], "conda": "hpo", "lines": ["export HF_HOME=/scratch/hf"]},
    )
    command = ["slurm", "worker", "--connection", "/logs/hpo-asha-7/connection.json"]
    written = scripts.worker(
        cluster, "hpo-asha-worker", command, Places(Path("/opt/hpo"), Path("/work"), "/usr/python")
    )
    assert written == WORKER


def test_gpus_may_be_asked_for_by_the_node() -> None:
    cluster = profile(node={"cpus": 8, "gpus": 4}, gpu_request="gpus-per-node")
    assert "#SBATCH --gpus-per-node=4\n" in scripts.worker(cluster, "w", [], PLACES)


def test_a_virtual_environment_is_activated_and_its_python_used() -> None:
    written = scripts.head(profile(environment={"venv": "/my env"}), "h", ["doctor"], PLACES)
    assert ". '/my env/bin/activate' || exit 1\n" in written
    assert "\nexec python -m hpo doctor\n" in written


@pytest.mark.parametrize("name", ["a b", "it's", 'say "no"', "$HOME", "`id`", "100%", "back\\slash"])
def test_any_folder_survives_the_shell(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    places = Places(tmp_path, folder, "/bin/echo")
    written = scripts.head(profile(), "h", [name], places).replace("exec ", "pwd; exec ")
    done = subprocess.run(["bash"], input=written, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(folder), f"-m hpo {name}"]


TASKS = """\
#!/bin/bash
#SBATCH --job-name=hpo-random
#SBATCH --output="/logs"/%x-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --time=04:00:00
#SBATCH --nodes=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=46080M
#SBATCH --gres=gpu:2
#SBATCH --signal=B:USR1@180
#SBATCH --no-requeue

cd '/home/me/it'"'"'s "mine"'
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec /opt/venv/bin/python -m hpo slurm task /logs/hpo-random-x
"""


def test_an_array_s_script() -> None:
    """A task takes what a trial takes: here a quarter of a node."""
    cluster = profile(node={"cpus": 20, "gpus": 8, "memory": "180G"}, cpus_per_rank=2, cpus_for_ray=4)
    written = scripts.trials(cluster, "hpo-random", ["slurm", "task", "/logs/hpo-random-x"], PLACES, 2, True)
    assert written == TASKS


def test_a_serial_job_is_queued_again_where_the_profile_says_so() -> None:
    for requeue in (True, False):
        written = scripts.trials(profile(requeue=requeue), "h", [], PLACES, 1, False)
        assert ("#SBATCH --requeue\n" in written) is requeue
        assert '#SBATCH --output="/logs"/%x-%j.out\n' in written
        assert "#SBATCH \n" not in written


TYPED = """\
#!/bin/bash
#SBATCH --job-name=mine-asha-worker
#SBATCH --output="/logs"/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --time=UNLIMITED
#SBATCH --nodes=1
#SBATCH --cpus-per-task=20
#SBATCH --mem=0
#SBATCH --gres=gpu:v100:2,lscratch:100,craynetwork:1
#SBATCH --no-requeue
#SBATCH --comment=ours
#SBATCH --constraint=v100
#SBATCH --exclusive

cd /work
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec /usr/python -m hpo slurm worker
"""


def test_workers_and_head_have_directives_of_their_own_beside_those_of_all_jobs() -> None:
    cluster = profile(
        node={"cpus": 20, "gpus": "v100:2", "memory": "0"},
        time="unlimited",
        directives=["--comment=ours", "--gres=lscratch:100"],
        workers={"count": 2, "directives": ["--constraint=v100", "--exclusive", "--gres=craynetwork:1"]},
        head={"directives": ["--qos=short"]},
    )
    places = Places(Path("/opt/hpo"), Path("/work"), "/usr/python")
    assert scripts.worker(cluster, "mine-asha-worker", ["slurm", "worker"], places) == TYPED
    head = [line for line in scripts.head(cluster, "h", [], places).splitlines() if line.startswith("#SBATCH")]
    assert head[-3:] == ["#SBATCH --comment=ours", "#SBATCH --gres=lscratch:100", "#SBATCH --qos=short"]
    assert not any("v100" in line or "exclusive" in line for line in head)
    tasks = scripts.trials(cluster, "t", [], places, 2, is_array=True)
    assert "#SBATCH --gres=gpu:v100:2,lscratch:100,craynetwork:1\n" in tasks
    assert "#SBATCH --constraint=v100\n" in tasks


ONE_JOB = """\
#!/bin/bash
#SBATCH --job-name=hpo-asha
#SBATCH --output="/logs"/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --time=04:00:00
#SBATCH --partition=gpu
#SBATCH --nodes=3
#SBATCH --cpus-per-task=20
#SBATCH --mem=180G
#SBATCH --gres=gpu:v100:8
#SBATCH --ntasks-per-node=1
#SBATCH --no-kill
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --comment=ours
#SBATCH --constraint=v100

cd /work
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec /usr/python -m hpo slurm head
"""


def test_one_job_asks_for_the_nodes_of_all_workers() -> None:
    cluster = profile(
        layout="one_job",
        partition="gpu",
        node={"cpus": 20, "gpus": "v100:8", "memory": "180G"},
        cpus_for_ray=4,
        directives=["--comment=ours"],
        workers={"count": 3, "directives": ["--constraint=v100"]},
    )
    places = Places(Path("/opt/hpo"), Path("/work"), "/usr/python")
    assert scripts.one_job(cluster, "hpo-asha", ["slurm", "head"], places) == ONE_JOB
    by_srun = "--overlap --nodes=1 --ntasks=1 --relative=2 --cpus-per-task=20 --kill-on-bad-exit=0"
    assert scripts.step(cluster, 2) == by_srun.split()


def test_typed_gpus_may_be_asked_for_by_the_node() -> None:
    cluster = profile(node={"cpus": 8, "gpus": "a100:4"}, gpu_request="gpus-per-node", directives=["--gres=nvme:1"])
    written = scripts.worker(cluster, "w", [], PLACES)
    assert "#SBATCH --gpus-per-node=a100:4\n" in written
    assert "#SBATCH --gres=nvme:1\n" in written


CONTAINER = """\
#!/bin/bash
#SBATCH --job-name=hpo-asha-worker
#SBATCH --output="/logs"/%x-%j.out
#SBATCH --open-mode=append
#SBATCH --time=04:00:00
#SBATCH --nodes=1
#SBATCH --cpus-per-task=4
#SBATCH --gres=gpu:2
#SBATCH --no-requeue

container=$(command -v apptainer || command -v singularity) || \\
    { echo "error: neither apptainer nor singularity is on $(hostname)" >&2; exit 1; }
export NCCL_DEBUG=WARN
cd '/home/me/it'"'"'s "mine"'
export PYTHONPATH=/opt/hpo${PYTHONPATH:+:$PYTHONPATH}
exec "$container" exec --nv --bind /opt/hpo --bind '/home/me/it'"'"'s "mine"' --bind /logs --bind /scratch:/data:ro \
--pwd '/home/me/it'"'"'s "mine"' '/images/my image.sif' python -m hpo slurm worker
"""


def in_container(**more: object) -> Profile:
    environment = {"container": "/images/my image.sif", "binds": ["/scratch:/data:ro"], **more}
    return profile(node={"cpus": 4, "gpus": 2}, environment=environment)


def test_a_container_s_script() -> None:
    """Not run here with apptainer itself: a stand-in for it is run below."""
    cluster = in_container(after_modules=["export NCCL_DEBUG=WARN"])
    written = scripts.worker(cluster, "hpo-asha-worker", ["slurm", "worker"], PLACES)
    assert written == CONTAINER.replace("\\\n--pwd", "--pwd")


@pytest.mark.parametrize("program", ["apptainer", "singularity"])
def test_a_job_runs_in_its_container_by_the_program_that_the_node_has(program: str, tmp_path: Path) -> None:
    """The stand-in drops its own words and runs the rest, as the container would."""
    for name, text in {
        program: 'echo "$1 $#"; while [ "$1" != python ]; do shift; done; exec "$@"',
        "python": 'echo "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    written = scripts.worker(in_container(), "w", ["slurm", "worker"], Places(tmp_path, tmp_path, ""))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash"], input=written, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == ["exec 16", "-m hpo slurm worker"]


def test_a_node_without_apptainer_ends_the_job_with_the_reason(tmp_path: Path) -> None:
    written = scripts.worker(in_container(), "w", [], Places(tmp_path, tmp_path, ""))
    bare = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(["bash"], input=written, capture_output=True, text=True, check=False, env=bare)
    assert done.returncode == 1
    assert done.stderr.startswith("error: neither apptainer nor singularity is on ")


def test_a_folder_that_cannot_be_bound_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="/home/a,b: has a colon or a comma in its name"):
        scripts.worker(in_container(), "w", [], Places(Path("/opt/hpo"), Path("/home/a,b"), ""))


@pytest.mark.parametrize(
    ("memory", "share"), [("180G", "46080M"), ("1T", "262144M"), ("4096", "1024M"), ("8192K", "2M"), ("", "")]
)
def test_a_trial_takes_its_share_of_the_memory(memory: str, share: str) -> None:
    cluster = profile(node={"cpus": 20, "gpus": 8, "memory": memory}, cpus_per_rank=2, cpus_for_ray=4)
    assert scripts.memory_share(cluster, 2) == share


def test_all_of_a_node_s_memory_is_a_share_where_one_trial_takes_the_node() -> None:
    assert scripts.memory_share(profile(node={"cpus": 4, "gpus": 2, "memory": "0"}), 2) == "0"


def test_all_of_a_node_s_memory_cannot_be_shared_out() -> None:
    with pytest.raises(BenchmarkError, match=r"node.memory is 0, all of a node's, and 4 trials .* such as 180G"):
        scripts.memory_share(profile(node={"cpus": 4, "gpus": 8, "memory": "0"}), 1)


FOUND = """
module() { echo "module $*"; }
conda() { if [ "$1" = shell.bash ]; then echo 'echo hooked'; else echo "conda $*"; fi; }
"""


def test_modules_and_conda_are_loaded_before_python_is_looked_for(tmp_path: Path) -> None:
    """The script runs in a shell that has both, as a login shell of a cluster has."""
    cluster = profile(environment={"modules": ["cuda/12.4", "gcc"], "conda": "my env", "lines": ["export A='b c'"]})
    written = scripts.head(cluster, "h", ["doctor"], Places(tmp_path, tmp_path, ""))
    told = FOUND + written.replace("exec python", 'echo "$A"; echo python')
    done = subprocess.run(["bash"], input=told, capture_output=True, text=True, check=True)
    expected = ["module load cuda/12.4", "module load gcc", "hooked", "conda activate my env", "b c"]
    assert done.stdout.splitlines() == [*expected, "python -m hpo doctor"]


def test_lines_run_first_and_after_modules_last(tmp_path: Path) -> None:
    """Here `module` is there because the first lines define it."""
    define = 'module() { echo "module $*"; }'
    environment = {"lines": [define], "modules": ["cuda"], "after_modules": ["echo after", "module list"]}
    written = scripts.head(profile(environment=environment), "h", [], Places(tmp_path, tmp_path, ""))
    told = written.replace("exec python", "echo python")
    done = subprocess.run(["bash"], input=told, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["module load cuda", "after", "module list", "python -m hpo"]


@pytest.mark.parametrize("environment", [{"modules": ["cuda"]}, {"lines": ["module load cuda"]}])
def test_a_node_without_the_command_module_ends_the_job_with_the_reason(
    environment: dict[str, object], tmp_path: Path
) -> None:
    written = scripts.head(profile(environment=environment), "h", [], Places(tmp_path, tmp_path, ""))
    assert written.startswith("#!/bin/bash -l\n")
    told = "unset -f module\n" + written.replace("exec python", "echo python")
    done = subprocess.run(["bash"], input=told, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: there is no command module on " in done.stderr


@pytest.mark.parametrize("environment", [{"modules": ["none"]}, {"conda": "none"}, {"venv": "/none"}])
def test_without_its_environment_a_job_ends_and_takes_no_other_python(
    environment: dict[str, object], tmp_path: Path
) -> None:
    written = scripts.head(profile(environment=environment), "h", [], Places(tmp_path, tmp_path, ""))
    told = written.replace("exec python", "echo python")
    done = subprocess.run(["bash"], input=told, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python" not in done.stdout
