"""Studies that were replayed from a bank: their file, and the records that comparisons read."""
