"""Banks: recorded learning curves of trainings in full, one Parquet file and one card (NAME.md) per bank."""
