"""Checks of models and data sets that lie on the hub, before ranks fetch them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, snapshot_download
from safetensors.torch import load_file, save_file

from benchmarks.check import hub, weights
from benchmarks.spec import BenchmarkError, load
from benchmarks.tasks import question_answering as squad
from tests.benchmarks.check.models import NANO_MODEL, model_folder
from tests.hubs import DATA, MODEL, environment, serving, serving_nano, write_benchmark, write_dataset

REPOSITORY = Path(__file__).parents[3]
NOWHERE = "http://127.0.0.1:9"
Check = Callable[..., dict[str, weights.Header]]


@pytest.fixture
def check(tmp_path: Path) -> Iterator[Check]:
    """Check a model of a hub that serves this folder; with a cache of the test's own."""
    with ExitStack() as stack:

        def check_folder(folder: Path, is_gated: bool = False) -> dict[str, weights.Header]:
            gated = frozenset([f"models/{MODEL}"] if is_gated else [])
            address = stack.enter_context(serving({f"models/{MODEL}": folder}, gated))
            return hub.check_model(MODEL, HfApi(endpoint=address), tmp_path / "cache")

        yield check_folder


def test_a_sound_model_passes_and_its_weights_are_not_downloaded(check: Check, tmp_path: Path) -> None:
    headers = check(NANO_MODEL)
    stored = weights.read_header(NANO_MODEL / "model.safetensors")
    assert {name: value["shape"] for name, value in headers["model.safetensors"].items()} == {
        name: value["shape"] for name, value in stored.items()
    }
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_pickled_weights_alone_are_refused(check: Check, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = (
        rf"^model {MODEL}: has neither model\.safetensors nor .* on the hub \(it has pytorch_model\.bin\), and pick"
    )
    with pytest.raises(BenchmarkError, match=message):
        check(folder)


def test_an_adapter_is_to_be_merged(check: Check, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, without="config.json")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(BenchmarkError, match=rf"^model {MODEL}: is a PEFT adapter .* merge it into its base"):
        check(folder)


def test_a_model_without_a_tokenizer_is_refused(check: Check, tmp_path: Path) -> None:
    folder = model_folder(tmp_path, without="tokenizer.json")
    with pytest.raises(BenchmarkError, match=rf"^model {MODEL}: has no tokenizer on the hub \(tokenizer\.json or"):
        check(folder)


def test_one_that_asks_for_consent_says_where_to_give_it(check: Check) -> None:
    with pytest.raises(BenchmarkError, match=f"^model {MODEL}: the hub asks for consent; give it on its page, and set"):
        check(NANO_MODEL, is_gated=True)


def test_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    with serving({}) as address, pytest.raises(BenchmarkError, match="the hub has no such model, or keeps it from you"):
        hub.check_model(MODEL, HfApi(endpoint=address), tmp_path)


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "F8_E4M3"])
def test_quantised_weights_are_refused(check: Check, tmp_path: Path, dtype: str) -> None:
    folder = model_folder(tmp_path)
    header = json.dumps({"h.0.qweight": {"dtype": dtype, "shape": [0], "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    message = rf"^model {MODEL}: is quantised \(h\.0\.qweight in model\.safetensors is {dtype}\)"
    with pytest.raises(BenchmarkError, match=message):
        check(folder)


def test_shards_are_looked_at_and_a_missing_one_is_named(check: Check, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    shutil.copy(folder / "model.safetensors", folder / names[1])
    (folder / "model.safetensors").rename(folder / names[0])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    assert list(check(folder)) == names
    (folder / names[1]).unlink()
    with pytest.raises(BenchmarkError, match=rf"{names[1]} is missing on the hub \(1 of 2 shards"):
        check(folder)


class TestCache:
    """Copies of an earlier download, where the hub does not answer."""

    @pytest.fixture
    def cached(self, tmp_path: Path) -> Path:
        with serving({f"models/{MODEL}": NANO_MODEL}) as address:
            return Path(snapshot_download(MODEL, endpoint=address, cache_dir=tmp_path / "cache"))

    def test_a_whole_copy_passes(self, cached: Path, tmp_path: Path) -> None:
        found = hub.check_model(MODEL, HfApi(endpoint=NOWHERE), tmp_path / "cache")
        assert found == {"model.safetensors": weights.read_header(NANO_MODEL / "model.safetensors")}

    def test_one_that_is_cut_off_is_refused_whether_the_hub_answers_or_not(self, cached: Path, tmp_path: Path) -> None:
        blob = (cached / "model.safetensors").resolve()
        blob.write_bytes(blob.read_bytes()[:10_000])
        with serving({f"models/{MODEL}": NANO_MODEL}) as address:
            for endpoint in (address, NOWHERE):
                with pytest.raises(BenchmarkError, match="is no whole file of weights"):
                    hub.check_model(MODEL, HfApi(endpoint=endpoint), tmp_path / "cache")

    def test_none_says_what_to_do(self, tmp_path: Path) -> None:
        message = rf"^model {MODEL}: is not in the cache, and cannot be fetched \(the hub does not answer: .*hpo fetch`"
        with pytest.raises(BenchmarkError, match=message):
            hub.check_model(MODEL, HfApi(endpoint=NOWHERE), tmp_path / "cache")

    def test_one_without_weights_is_refused(self, cached: Path, tmp_path: Path) -> None:
        (cached / "model.safetensors").unlink()
        with pytest.raises(BenchmarkError, match=r"^the cache's copy of .* cannot be used .* no \*\.safetensors"):
            hub.check_model(MODEL, HfApi(endpoint=NOWHERE), tmp_path / "cache")


CHECK = """
import sys
from benchmarks.check.start import check_start
from benchmarks.spec import load
benchmark = load(sys.argv[1])
print(*check_start(benchmark), sep="\\n")
assert check_start(benchmark) == []
"""


def run(folder: Path, variables: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", **variables}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_splits_of_the_hub_that_share_articles_are_warned_of_once(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    with serving_nano(tmp_path) as found:
        done = run(tmp_path, found, "-c", CHECK, "remote.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search("^train and validation share [0-9]+ articles?, such as", done.stdout, re.MULTILINE)


@pytest.mark.thorough  # the splits above are compared in the same way
@pytest.mark.slow
def test_they_are_compared_with_files_too_and_a_shipped_model_changes_nothing(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path)
    content, nano = yaml.safe_load(path.read_text()), load("nano").training_settings()
    content["finetune"]["model"] = nano.model
    content["finetune"]["data"]["validation"] = {"file": str(nano.data.train.file), "limit": 8}
    path.write_text(yaml.safe_dump(content))
    with serving_nano(tmp_path) as found:
        done = run(tmp_path, found, "-c", CHECK, "remote.yaml")
    assert done.returncode == 0, done.stderr
    assert "train and validation share 8 questions" in done.stdout


@pytest.mark.slow
def test_a_study_is_refused_before_anything_starts(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    study = ("-m", "hpo", "run", "random", "--benchmark", "remote.yaml", "--budget", "1")
    offline = run(tmp_path, {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "empty")}, *study)
    assert (offline.returncode, offline.stdout) == (2, "")
    message = f"error: model {MODEL}: is not in the cache, and cannot be fetched (HF_HUB_OFFLINE is set); run `python"
    assert offline.stderr.startswith(message)
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.slow
def test_weights_that_a_model_on_the_hub_lacks_are_named_and_nothing_is_downloaded(tmp_path: Path) -> None:
    write_benchmark(tmp_path)
    with serving_nano(tmp_path) as found:
        file = tmp_path / "hub-model" / "model.safetensors"
        compiled = {f"_orig_mod.{name}": tensor for name, tensor in load_file(file).items()}
        save_file(compiled, file, metadata={"format": "pt"})
        done = run(tmp_path, found, "-c", CHECK, "remote.yaml")
    assert re.search(rf"model {MODEL}: its files lack the weights .* begin with '_orig_mod\.'", done.stderr)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_stand_in_has_the_names_and_shapes_of_the_weights_and_takes_no_room(tmp_path: Path) -> None:
    stored = weights.read_header(NANO_MODEL / "model.safetensors")
    large = {"more": {"dtype": "BF16", "shape": [2**20, 2**12]}, "less": {"dtype": "F8_E4M3", "shape": [3]}}
    weights.write_stand_in(tmp_path, [stored, large])
    file, expected = tmp_path / "model.safetensors", stored | large
    kept = {name: (one["dtype"], one["shape"]) for name, one in weights.read_header(file).items()}
    assert kept == {name: (one["dtype"], one["shape"]) for name, one in expected.items()}
    assert file.stat().st_size > 2**33
    assert file.stat().st_blocks * 512 < 2**20


@pytest.mark.slow
def test_the_revision_of_a_data_set_is_the_one_that_is_read(tmp_path: Path) -> None:
    records = squad.read_split(load("nano").training_settings().data.train.model_copy(update={"limit": 12}))
    write_dataset(tmp_path / "newest", records)
    write_dataset(tmp_path / "first", records[:5])
    places = {f"datasets/{DATA}": tmp_path / "newest", f"datasets/{DATA}@v1.0": tmp_path / "first"}
    code = (
        "from benchmarks.spec import Split\nfrom benchmarks.tasks.question_answering import read_split\n"
        f"settings = {{'dataset': '{DATA}', 'config': 'plain_text', 'split': 'train'}}\n"
        "print(*(len(read_split(Split(**settings, revision=name))) for name in ('v1.0', None)))\n"
    )
    with serving(places) as address:
        done = run(tmp_path, environment(address, tmp_path / "cache"), "-c", code)
    assert done.stdout == "5 12\n", done.stderr
