"""The suite on a cluster, for someone who has only `sbatch`. Uses `hpo`; neither `hpo` nor `benchmarks` needs it."""
