"""Commands that measure the suite itself; they start `python -m hpo` as a process."""
