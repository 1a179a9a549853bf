"""Start or stop a SLURM of two nodes on this machine, as root.

apt-get install slurm-wlm munge
python -m slurm.testbed start /tmp/testbed
export SLURM_CONF=/tmp/testbed/slurm.conf
sinfo
python -m slurm.testbed stop /tmp/testbed
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slurm.testbed.daemons import lacks, start, stop

SUMMARY = "Start or stop a SLURM of two nodes on this machine."


def main() -> int:
    """Parse the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m slurm.testbed", description=SUMMARY)
    parser.add_argument("verb", choices=["start", "stop"])
    parser.add_argument("folder", type=Path)
    parsed = parser.parse_args()
    folder = parsed.folder.absolute()
    if parsed.verb == "stop":
        stop(folder)
        return 0
    lacking = lacks()
    if lacking:
        print(f"error: {lacking}", file=sys.stderr)
        return 2
    print(f"export SLURM_CONF={start(folder)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
