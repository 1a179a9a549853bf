"""Schedulers of Ray Tune, corrected: brackets, stopping rules and populations."""
