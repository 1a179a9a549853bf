"""Check of a node with a GPU, `python -m benchmarks.measure.device`: the fine-tuning loop as users run it."""
