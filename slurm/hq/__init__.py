"""Studies of many short trials as tasks of HyperQueue, on one machine or within one SLURM allocation of one node."""
