"""The programs that SLURM jobs run: head, workers, trials."""
