"""Record banks: trainings in full of a list of configurations with several seeds, resumable at any kill."""
