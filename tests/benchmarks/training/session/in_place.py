"""A change of hyperparameters in a live trial, without a checkpoint: an oracle for changes that go through one."""

from __future__ import annotations

from benchmarks.space import Config
from benchmarks.spec import Benchmark
from benchmarks.training.session import Session


def change_in_place(session: Session, benchmark: Benchmark, config: Config) -> None:
    """Overwrite all numbers that the next steps are trained with; engine, weights and moments stay as they are.

    The engine clips gradients by a norm of its own, and accumulates them: those two must not change.
    """
    before, after = session.trial.hyperparameters, benchmark.hyperparameters(config)
    assert before.max_grad_norm == after.max_grad_norm
    assert before.gradient_accumulation_steps == after.gradient_accumulation_steps
    vars(before).update(after.model_dump())  # base rate, shape and warm-up of the schedule, and the batch size
    for group in session.trial.engine.optimizer.param_groups:
        group["lr"] = group["initial_lr"] = after.learning_rate
        group["weight_decay"] = after.weight_decay if group["decays"] else 0.0
        group["betas"], group["eps"] = (after.adam_beta1, after.adam_beta2), after.adam_epsilon
