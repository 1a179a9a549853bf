"""The store of a cluster, as jobs use it: the tracking server of the profile, or an SQLite file that they share.

Jobs write to the file as they go, one at a time (`hpo.store.sharing`). A study's own log of events is the truth, in
`unfinished/` or in the folder of its jobs. So a job that could not write (killed, disk full) has lost nothing, and
`python -m hpo slurm collect` tells the store the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hpo.engine.study_folder import Unfinished
from hpo.store import client, sharing
from slurm import scheduler
from slurm.profile import Profile

URI = "MLFLOW_TRACKING_URI"


@contextmanager
def opened(profile: Profile) -> Iterator[str]:
    """Make the store that of this process and of all that it starts, which take turns with other jobs at a file.

    Yields:
        Its tracking URI.

    Raises:
        BenchmarkError: the file cannot be made or used.
    """
    before = os.environ.get(URI)
    os.environ[URI] = profile.tracking_uri
    try:
        with nullcontext() if profile.is_served else sharing.shared(Path(profile.store)):
            if not profile.is_served:
                client.make()
            yield profile.tracking_uri
    finally:
        os.environ.pop(URI) if before is None else os.environ.update({URI: before})


def deliver(one: Unfinished) -> str:
    """Tell the store the rest of a study of a job that has ended; return the result in a few words.

    Raises:
        BenchmarkError: it cannot be read, or the store cannot be used.
    """
    job = one.asked().job
    if not job:
        return "is of no job; see `python -m hpo sync`"
    if running := scheduler.unfinished([job]):
        return f"left to job {', '.join(running)}, which has not ended"
    from hpo.workflows import sync  # imports Ray, and the head job has set nothing for it when it imports this

    return sync.deliver(one)
