"""CSV files of studies that were run elsewhere, as tests write them."""

from __future__ import annotations

from pathlib import Path

HEADING = "trial,unit,learning_rate,eval_loss,f1,seconds,devices,outcome,reason"
GOOD = "a,9,1e-3,0.5,0.8,10,1,,"


def write(file: Path, *lines: str, heading: str = HEADING) -> Path:
    file.write_text("\n".join([heading, *lines]) + "\n")
    return file
