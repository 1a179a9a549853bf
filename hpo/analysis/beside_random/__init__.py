"""Contestants and rungs beside the trainings of random search."""
