"""Speed of both sides of a comparison, measured in turns: `python -m benchmarks.measure.speed`."""
