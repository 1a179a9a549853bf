"""Finished studies as they are read: records, statistics, comparison."""
