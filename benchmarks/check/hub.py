"""Look at a model on the hub before a rank downloads it: the list of its files, and the headers of its weights.

Where the hub is not asked (HF_HUB_OFFLINE) or does not answer, the copy in the local cache is checked, which is then
all that ranks have. The hub is huggingface.co, or the server that HF_ENDPOINT names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.check import weights
from benchmarks.files import BenchmarkError, first_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SECONDS = 10.0
"""Time in which the hub has to answer."""
READERS = 8
"""Headers of shards that are fetched at once."""
ELSEWHERE = "run `python -m hpo fetch` where there is internet, such as a login node, or give a local folder"


@contextmanager
def readable_errors(kind: Literal["model", "dataset"], name: str, revision: str | None = None) -> Iterator[None]:
    """Explain a hub's refusals in a sentence.

    Args:
        kind: of the repository.
        name: of the repository.
        revision: that was asked for.

    Raises:
        BenchmarkError: the hub has no such repository or revision, or keeps it from this user.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError as error:
        raise BenchmarkError(
            f"{kind} {name!r}: is no name on the hub ({first_line(error)}); give one such as bigscience/bloom-560m"
        ) from None
    except GatedRepoError:
        raise BenchmarkError(
            f"{kind} {name}: the hub asks for consent; give it on its page, and set HF_TOKEN"
        ) from None
    except RevisionNotFoundError:
        raise BenchmarkError(f"{kind} {name}: has no revision {revision}; give a commit or tag of its page") from None
    except RepositoryNotFoundError:
        raise BenchmarkError(f"{kind} {name}: the hub has no such {kind}, or keeps it from you; set HF_TOKEN") from None


def check_model(name: str, api: HfApi | None = None, cache: Path | None = None) -> dict[str, weights.Header]:
    """Check a model on the hub as far as its list of files and the headers of its weights tell.

    Args:
        name: of the model.
        api: of the hub; by default that of the environment.
        cache: folder of downloads; by default that of the environment.

    Returns:
        The header of each of its files of weights, by the file's name; empty where they could not be fetched.

    Raises:
        BenchmarkError: ranks could not load it; or the hub cannot be asked, and the cache does not have it.
    """
    from huggingface_hub import HfApi, is_offline_mode

    if is_offline_mode():
        return _check_cached(name, cache, "HF_HUB_OFFLINE is set")
    api = api or HfApi()
    try:
        with readable_errors("model", name):
            info = api.model_info(name, timeout=SECONDS)
            if info.gated:
                api.auth_check(name)
    except BenchmarkError:
        raise
    except Exception as error:  # the HTTP library's kinds are no part of huggingface_hub
        return _check_cached(name, cache, f"the hub does not answer: {first_line(error)}")
    files = [file.rfilename for file in info.siblings or ()]
    _check_files(name, files)
    headers = _headers(name, files, api, info.sha, cache)
    for file, header in headers.items():
        weights.require_trainable(f"model {name}", file, header)
    return headers


def _check_files(name: str, files: Sequence[str]) -> None:
    """Check which files a repository has.

    Raises:
        BenchmarkError: it is an adapter, or lacks safetensors or a tokenizer.
    """
    if weights.ADAPTER in files:
        raise weights.is_adapter(f"model {name}")
    if weights.WHOLE not in files and weights.INDEX not in files:
        others = [file for file in files if file.endswith((".bin", ".pt", ".pth", ".gguf", ".h5", ".safetensors"))]
        has = f" (it has {others[0]})" if others else ""
        raise BenchmarkError(
            f"model {name}: has neither {weights.WHOLE} nor {weights.INDEX} on the hub{has}, and pickled weights are "
            "never loaded; save it as safetensors with save_pretrained where you trust it, and give that folder"
        )
    if not any(file in files for file in weights.TOKENIZER_FILES):
        raise BenchmarkError(
            f"model {name}: has no tokenizer on the hub ({' or '.join(weights.TOKENIZER_FILES)}); "
            "save model and tokenizer in a folder, and give that"
        )


def _headers(
    name: str, files: Sequence[str], api: HfApi, revision: str | None, cache: Path | None
) -> dict[str, weights.Header]:
    """Read the headers of a repository's weights, from the cache where it has them.

    Raises:
        BenchmarkError: a shard is missing, or a file in the cache is cut off.
    """
    try:
        shards = [weights.WHOLE] if weights.WHOLE in files else _shards(name, files, api, revision, cache)
        with ThreadPoolExecutor(READERS) as readers:
            found = list(readers.map(partial(_header, name, api, revision, cache), shards))
    except BenchmarkError:
        raise
    except Exception:  # of the network, or a header that is none: ranks will say, if it lasts
        return {}
    return dict(zip(shards, found, strict=True))


def _shards(name: str, files: Sequence[str], api: HfApi, revision: str | None, cache: Path | None) -> list[str]:
    index = Path(api.hf_hub_download(name, weights.INDEX, revision=revision, cache_dir=cache))
    shards = weights.shard_names(index)
    if missing := [shard for shard in shards if shard not in files]:
        raise BenchmarkError(
            f"model {name}: {missing[0]} is missing on the hub ({len(missing)} of {len(shards)} shards of "
            f"{weights.INDEX}); give another model, or a whole copy in a folder"
        )
    return shards


def _header(name: str, api: HfApi, revision: str | None, cache: Path | None, file: str) -> weights.Header:
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, file, cache_dir=cache, revision=revision)
    if isinstance(cached, str):
        return weights.read_header(Path(cached))
    metadata = api.parse_safetensors_file_metadata(name, file, revision=revision, timeout=SECONDS)
    return {key: {"dtype": one.dtype, "shape": list(one.shape)} for key, one in metadata.tensors.items()}


def _check_cached(name: str, cache: Path | None, reason: str) -> dict[str, weights.Header]:
    """Check the copy of a model in the cache, as a folder.

    Raises:
        BenchmarkError: there is none, or it cannot be used.
    """
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(name, file, cache_dir=cache) for file in ("config.json", weights.ADAPTER))
    copies = [Path(path).parent for path in found if isinstance(path, str)]
    if not copies:
        raise BenchmarkError(f"model {name}: is not in the cache, and cannot be fetched ({reason}); {ELSEWHERE}")
    try:
        weights.check_folder(copies[0])
        return {path.name: weights.read_header(path) for path in weights.weight_files(copies[0])}
    except BenchmarkError as error:
        raise BenchmarkError(f"the cache's copy of {name} cannot be used ({reason}): {error}; or {ELSEWHERE}") from None
