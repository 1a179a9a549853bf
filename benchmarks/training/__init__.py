"""Processes that can run a trial: a DeepSpeed session on warm ranks, or a formula."""
