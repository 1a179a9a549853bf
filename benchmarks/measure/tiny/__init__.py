"""The cost of many short trials: tasks of HyperQueue beside SLURM arrays, plain sbatch and Ray."""
