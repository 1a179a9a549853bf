"""Figures of scores over the cost that was spent."""
