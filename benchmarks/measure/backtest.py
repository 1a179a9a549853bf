"""Gains of ASHA over random search on curves that others recorded: `python -m benchmarks.measure.backtest BANK ...`.

Studies draw configurations from a bank without repeats, ASHA and random search in the same order. They choose by the
metric on validation and are scored by that on test; the table shows mean gains over seeds with 95 % intervals of
Student's t. For the banks of opda (Lourie, Cho and He 2023, https://github.com/nicholaslourie/opda)::

    python -m hpo bank import deberta-v3-base_tuning.results.jsonl --format opda --licence CC-BY-SA-4.0
    python -m benchmarks.measure.backtest banks/deberta-v3-base_tuning.parquet

They have one seed per configuration, so the seeds of a back-test stand for the order of draws alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys


def main() -> int:
    """Run both methods on each bank, and print a line per bank and budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.measure.backtest", description=__doc__.split("\n")[0])
    parser.add_argument("banks", nargs="+", help="Parquet files")
    parser.add_argument("--budgets", default="4,8,12,24,48", help="full trainings (default: 4,8,12,24,48)")
    parser.add_argument("--seeds", type=int, default=2000, help="pairs of studies (default: 2000)")
    parser.add_argument("--devices", type=int, default=1, help="of each study (default: 1)")
    given = parser.parse_args()
    options = ["--budgets", given.budgets, "--seeds", str(given.seeds), "--devices", str(given.devices)]
    command = [sys.executable, "-m", "hpo.replays.backtest", *given.banks, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            print(
                f"{found['bank']:24} budget {found['budget']:3}  gain {found['gain']:+.5f} "
                f"[{found['low']:+.5f}, {found['high']:+.5f}]  asha {found['asha']:.5f}  random {found['random']:.5f}",
                flush=True,
            )
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
