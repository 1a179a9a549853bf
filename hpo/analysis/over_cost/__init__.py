"""Scores over the cost that was spent: curves, and incumbents along the way."""
