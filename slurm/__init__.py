"""The suite on a cluster, for someone who has only `sbatch`. Uses `hpo`, of which only the command line knows it."""
