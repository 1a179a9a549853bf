"""Checkpoints of a trial: in the memory of its node first, and on the disk in the background."""
