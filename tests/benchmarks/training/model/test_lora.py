"""LoRA and gradient checkpointing in a trial: what is trained, what is kept, what is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from benchmarks import spec
from benchmarks.spec import Benchmark
from benchmarks.training.engine import whole_weights
from benchmarks.training.model import models
from benchmarks.training.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
Maker = Callable[..., Benchmark]
LORA = {"lora_rank": 4, "lora_alpha": 8.0, "learning_rate": 3e-3, "batch_size_per_device": 8}


@pytest.fixture(scope="module", params=[0, pytest.param(3, marks=pytest.mark.thorough)])  # test_offload has LoRA at 3
def session(request: pytest.FixtureRequest, small_nano: Maker) -> Iterator[Session]:
    made = Session(small_nano(stage=request.param))
    yield made
    made.close()


def weights(session: Session) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in whole_weights(session.trial.engine, rank=0).items()}


def base() -> dict[str, torch.Tensor]:
    nano = spec.load("nano").finetune
    assert nano is not None
    return dict(models.load_model(nano.model).state_dict())


def run(session: Session, config: dict[str, Any], units: int = 1) -> dict[str, float]:
    session.start(config, seed=0)
    result = {}
    for _ in range(units):
        result = session.run_unit()
    return result


def test_the_updates_alone_are_trained(session: Session) -> None:
    session.start(LORA, seed=0)
    before = weights(session)
    session.run_unit()
    after, plain = weights(session), base()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {name for name in after if ".lora_" in name}
    layers = {name for name in after if name.endswith("lora_A.default.weight")}
    assert len(layers) == 3 * 4  # four linear layers in each of three blocks
    assert all(after[name].shape[0] == 4 for name in layers)
    kept = {name.replace(".base_layer.", "."): value for name, value in after.items() if ".lora_" not in name}
    assert all(torch.equal(kept[name], plain[name]) for name in plain if name in kept)


def test_it_learns_and_alpha_counts(session: Session) -> None:
    first = run(session, LORA)
    assert run(session, LORA, units=3)["eval_loss"] < first["eval_loss"]
    assert run(session, {**LORA, "lora_alpha": 32.0})["train_loss"] != first["train_loss"]


def test_a_trial_after_it_trains_all_weights_as_a_fresh_one_does(session: Session) -> None:
    plain = {"learning_rate": 1e-3, "batch_size_per_device": 8}
    alone = run(session, plain)
    run(session, LORA)
    again = run(session, plain)
    assert (again["train_loss"], again["eval_loss"]) == (alone["train_loss"], alone["eval_loss"])


def test_it_goes_on_from_a_checkpoint(session: Session, tmp_path: Path) -> None:
    through = run(session, LORA, units=2)
    run(session, LORA)
    session.save(tmp_path)
    session.start({**LORA}, seed=1)
    session.load(tmp_path)
    assert session.run_unit()["eval_loss"] == pytest.approx(through["eval_loss"], abs=1e-6)


def test_the_saved_model_is_a_plain_one_that_scores_the_same(session: Session, tmp_path: Path) -> None:
    run(session, LORA)
    session.save_model(tmp_path)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert not [name for name in saved.state_dict() if "lora" in name or "base_layer" in name]
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        expected = session.trial.engine.module.eval()(ids).logits
    torch.testing.assert_close(saved(ids).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("saved", "own"), [(4, 8), (4, 0), (0, 4)])
def test_a_checkpoint_of_another_rank_is_refused(session: Session, saved: int, own: int, tmp_path: Path) -> None:
    session.start({**LORA, "lora_rank": saved}, seed=0)
    session.save(tmp_path)
    session.start({**LORA, "lora_rank": own}, seed=0)
    with pytest.raises(RuntimeError, match=r"loading state_dict|must match the size"):
        session.load(tmp_path)


def test_dropout_is_in_training_alone(session: Session) -> None:
    session.start({**LORA, "lora_dropout": 0.5}, seed=0)
    untrained = session.evaluate()
    session.start(LORA, seed=0)
    assert session.evaluate() == untrained
    assert run(session, {**LORA, "lora_dropout": 0.5})["train_loss"] != run(session, LORA)["train_loss"]


def test_gradient_checkpointing_changes_no_result(session: Session) -> None:
    config = {"learning_rate": 1e-3, "batch_size_per_device": 8}
    kept, again = run(session, config), run(session, {**config, "gradient_checkpointing": True})
    assert session.trial.engine.module.is_activation_checkpointing
    assert again["eval_loss"] == pytest.approx(kept["eval_loss"], abs=1e-5)
    assert again["exact_match"] == kept["exact_match"]
