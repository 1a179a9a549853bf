"""Usage: python trials_in_turn.py BENCHMARK.json TRIALS.json: runs one unit of each trial on the same session.

Prints the last one's scores, a checksum of its weights, and its start-up time, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

from benchmarks.spec import Benchmark
from benchmarks.training.process import join_process_group, prepare_process
from benchmarks.training.session import Session


def main() -> None:
    benchmark = Benchmark.model_validate_json(Path(sys.argv[1]).read_text())
    prepare_process(threads=1)
    join_process_group()
    session = Session(benchmark)
    for config, seed in json.loads(Path(sys.argv[2]).read_text()):
        began = time.perf_counter()
        session.start(config, seed)
        startup_seconds = time.perf_counter() - began
        metrics = session.run_unit()
    state = session.trial.engine.module.state_dict()
    weights = b"".join(state[name].contiguous().numpy().tobytes() for name in sorted(state))
    result = {"weights": hashlib.sha256(weights).hexdigest(), "eval_loss": metrics["eval_loss"], "f1": metrics["f1"]}
    print(json.dumps({"result": result, "startup_seconds": startup_seconds}))


if __name__ == "__main__":
    main()
