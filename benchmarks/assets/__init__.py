"""Files that benchmarks ship with, and the scripts that made them."""
