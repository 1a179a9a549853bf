"""A SLURM of two nodes on one Debian machine, for trying job scripts and for the tests."""
