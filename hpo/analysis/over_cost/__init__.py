"""Scores over the cost that was spent: curves, what they are worth in random trainings, and targets reached."""
