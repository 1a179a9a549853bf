"""The recording of a bank as an array of SLURM: each task records a part, and the last job gathers the bank."""
