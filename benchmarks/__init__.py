"""The tuned side: benchmarks, data, and the fine-tuning session. Imports nothing of `hpo`."""
