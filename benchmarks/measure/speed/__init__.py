"""Where the time goes, measured side by side: `python -m benchmarks.measure.speed`."""
