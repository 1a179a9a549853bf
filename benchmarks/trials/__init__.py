"""Kinds of trials: a training of a model, or a learning curve that is computed. A benchmark has the block of one."""
