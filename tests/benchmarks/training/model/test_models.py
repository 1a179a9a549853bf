"""The model's files: weights that do not fit, generation settings, tokenizers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config

from benchmarks import spec
from benchmarks.hyperparameters import Hyperparameters
from benchmarks.identity import digest
from benchmarks.spec import Benchmark, BenchmarkError
from benchmarks.training.engine import whole_weights
from benchmarks.training.model.models import load_base_model, load_model, load_tokenizer
from benchmarks.training.session import Session

Maker = Callable[..., Benchmark]
LAYER = "transformer.h.1.mlp.c_fc.weight"
HEAD = "lm_head.weight"
EMBEDDING = "transformer.wte.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 of two small layers with an output head of its own, and nano's tokenizer."""
    nano = spec.load("nano").training_settings()
    tokenizer = load_tokenizer(nano.model)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    shape = GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=160,
        vocab_size=len(tokenizer),
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=1,
    )
    AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path)
    return tmp_path


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def without(*names: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


class TestWeightsThatDoNotFit:
    def test_a_missing_one_is_refused_and_named(self, folder: Path) -> None:
        change_weights(folder, without(LAYER))
        message = (
            f"model {folder}: its files lack the weight {LAYER}, which would be drawn at random; save the whole model "
            "with save_pretrained, or, to have them drawn by each trial's seed, name them in "
            f"finetune.allow_new_weights, such as [{re.escape(LAYER)!r}]"
        )
        with pytest.raises(BenchmarkError, match=f"^{re.escape(message)}$"):
            load_model(str(folder))

    def test_many_are_counted(self, folder: Path) -> None:
        change_weights(
            folder, lambda weights: {n: v for n, v in weights.items() if not n.startswith("transformer.h.1.")}
        )
        with pytest.raises(
            BenchmarkError,
            match=r"lack the weights transformer.h.1.attn.c_attn.bias, transformer.h.1.attn.c_attn.weight, "
            r"transformer.h.1.attn.c_proj.bias and 9 more, which",
        ):
            load_model(str(folder))

    @pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "model._orig_mod."])
    def test_a_prefix_is_refused_and_named(self, prefix: str, folder: Path) -> None:
        change_weights(folder, lambda weights: {f"{prefix}{name}": value for name, value in weights.items()})
        with pytest.raises(
            BenchmarkError, match=f"the names begin with '{re.escape(prefix)}', as a wrapped or compiled"
        ):
            load_model(str(folder))

    def test_a_layer_too_many_is_refused_and_named(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "n_layer": 1}))
        with pytest.raises(
            BenchmarkError, match=r"have the weights transformer.h.1.attn.c_attn.weight, .* and 8 more, which"
        ):
            load_model(str(folder))

    def test_another_shape_is_refused(self, folder: Path) -> None:
        change_weights(folder, lambda weights: {**weights, LAYER: weights[LAYER][:, :-1].contiguous()})
        with pytest.raises(BenchmarkError, match=f"model {re.escape(str(folder))}: cannot be loaded"):
            load_model(str(folder))

    def test_a_truncated_file_is_refused(self, folder: Path) -> None:
        file = folder / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(BenchmarkError, match=f"model {re.escape(str(folder))}: cannot be loaded"):
            load_model(str(folder))

    def test_masks_that_older_libraries_saved_are_passed_over(self, folder: Path) -> None:
        masks = {
            f"transformer.h.{i}.attn.{name}": torch.ones(1, 1, 8, 8).tril()
            for i in range(2)
            for name in ("bias", "masked_bias", "attention.masked_bias", "causal_mask", "rotary_emb.inv_freq")
        }
        change_weights(folder, lambda weights: weights | masks)
        load_model(str(folder))

    def test_a_tied_head_is_not_missing(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
        change_weights(folder, without(HEAD))
        model = load_model(str(folder))
        assert model.lm_head.weight is model.transformer.wte.weight


class TestNewWeightsThatAreAllowed:
    def test_they_are_drawn_by_the_trial_s_seed_and_no_other_weight_is(self, folder: Path) -> None:
        whole = load_model(str(folder)).state_dict()
        change_weights(folder, without(HEAD, "transformer.h.1.ln_1.bias"))
        base = load_base_model(str(folder), [r"^lm_head\.", r"ln_1\.bias$"])
        assert base.new_weights == (HEAD, "transformer.h.1.ln_1.bias")

        def drawn(seed: int) -> dict[str, torch.Tensor]:
            torch.manual_seed(seed)
            return dict(base.for_trial(Hyperparameters()).state_dict())

        first, again, other = drawn(0), drawn(0), drawn(1)
        assert torch.equal(first[HEAD], again[HEAD])
        assert not torch.equal(first[HEAD], other[HEAD])
        assert 0.01 < float(first[HEAD].std()) < 0.03  # GPT-2 draws with 0.02
        assert float(first["transformer.h.1.ln_1.bias"].abs().max()) == 0
        assert all(torch.equal(first[name], value) for name, value in whole.items() if name not in base.new_weights)

    def test_others_are_still_refused(self, folder: Path) -> None:
        change_weights(folder, without(HEAD, LAYER))
        with pytest.raises(BenchmarkError, match=f"lack the weight {LAYER}, which"):
            load_base_model(str(folder), ["lm_head"])

    def test_a_model_for_plain_trainer_has_them_drawn_by_a_seed(self, folder: Path) -> None:
        change_weights(folder, without(HEAD))
        torch.manual_seed(9)
        state = torch.get_rng_state()
        first, again, other = (load_model(str(folder), ["lm_head"], seed).lm_head.weight for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        torch.manual_seed(9)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.slow
    @pytest.mark.usefixtures("process_group")
    def test_trials_of_a_seed_begin_alike(self, folder: Path, small_nano: Maker) -> None:
        change_weights(folder, without(HEAD))
        session = Session(small_nano(model=str(folder), unit_samples=8, allow_new_weights=("lm_head",)))
        losses = []
        for seed in (3, 3, 4):
            session.start({"batch_size_per_device": 8}, seed)
            losses.append(session.evaluate()["eval_loss"])
        session.close()
        assert losses[0] == losses[1] != losses[2]

    def test_lora_trains_them_beside_its_updates(self, folder: Path) -> None:
        """The layer's name in the model with updates is `base_layer`; only what the files had is frozen."""
        names = (HEAD, LAYER, "transformer.h.1.ln_1.bias")
        change_weights(folder, without(*names))
        model = load_base_model(str(folder), [re.escape(name) for name in names]).for_trial(
            Hyperparameters(lora_rank=4)
        )
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert {name.replace(".base_layer.", ".") for name in trained if ".lora_" not in name} == set(names)
        assert len([name for name in trained if ".lora_" in name]) == 2 * 2 * 4

    @pytest.mark.slow
    @pytest.mark.usefixtures("process_group")
    @pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (2, "bf16"), (3, "fp32")])
    def test_a_trial_of_lora_trains_saves_resumes_and_exports_them(
        self, stage: int, precision: str, folder: Path, small_nano: Maker, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        change_weights(folder, without(HEAD, LAYER))
        files = load_file(folder / "model.safetensors")
        allowed = (r"^lm_head", re.escape(LAYER))
        settings = {"model": str(folder), "precision": precision, "allow_new_weights": allowed}
        session = Session(small_nano(unit_samples=16, validation=8, stage=stage, **settings))
        config = {"lora_rank": 4, "learning_rate": 3e-3, "batch_size_per_device": 8}

        def weights() -> dict[str, torch.Tensor]:
            whole = whole_weights(session.trial.engine, rank=0)
            return {name.replace(".base_layer.", "."): weight.float() for name, weight in whole.items()}

        session.start(config, seed=3)
        before = weights()
        losses = [session.run_unit()["eval_loss"]]
        after = weights()
        changed = {name for name in after if not torch.equal(after[name], before[name])}
        assert changed == {HEAD, LAYER} | {name for name in after if ".lora_" in name}
        saved, exported = tmp_path_factory.mktemp("saved"), tmp_path_factory.mktemp("exported")
        session.save(saved)
        losses.append(session.run_unit()["eval_loss"])
        session.start(config, seed=4)
        assert not torch.equal(weights()[HEAD], before[HEAD])
        session.start(config, seed=3)
        assert all(torch.equal(weight, before[name]) for name, weight in weights().items())
        session.load(saved)
        assert all(torch.equal(weight, after[name]) for name, weight in weights().items())
        assert session.run_unit()["eval_loss"] == losses[1]
        last = weights()
        session.save_model(exported)
        session.close()
        written = load_file(exported / "model.safetensors")
        assert torch.equal(written[HEAD].float(), last[HEAD])
        above, below = (last[LAYER.replace("weight", f"lora_{part}.default.weight")] for part in "BA")
        torch.testing.assert_close(written[LAYER], last[LAYER] + 4 * (above @ below).T, atol=1e-5, rtol=1e-5)
        rounded = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert torch.equal(written[EMBEDDING], files[EMBEDDING].to(rounded).float())

    def test_a_pattern_that_is_none_is_refused(self) -> None:
        content = spec.load("nano").model_dump(mode="json", exclude_none=True)
        content["finetune"]["allow_new_weights"] = ["lm_head("]
        with pytest.raises(ValueError, match=r"'lm_head\(' is no regular expression"):
            Benchmark.model_validate(content)

    def test_a_benchmark_s_identity_counts_them_only_where_they_are_allowed(self) -> None:
        nano = spec.load("nano")
        settings = nano.training_settings()
        allowing = nano.model_copy(update={"finetune": settings.model_copy(update={"allow_new_weights": ("head",)})})
        assert digest(allowing) != digest(nano)


GENERATION: list[dict[str, Any]] = [
    {"repetition_penalty": 5.0},
    {"min_length": 200},
    {"num_beams": 4},
    {"do_sample": True, "temperature": 2.0},
    {"max_length": 5, "eos_token_id": 7, "suppress_tokens": [5, 6], "no_repeat_ngram_size": 1},
]


@pytest.fixture(scope="module")
def nano_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nano's model, which answers some questions."""
    source = Path(spec.load("nano").training_settings().model)
    return Path(shutil.copytree(source, tmp_path_factory.mktemp("nano") / "model"))


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
class TestGenerationSettingsOfTheModel:
    def scores(self, benchmark: Benchmark) -> dict[str, float]:
        session = Session(benchmark)
        session.start({}, seed=0)
        found = session.evaluate()
        session.close()
        return found

    @pytest.mark.parametrize(
        ("file", "settings"),
        [*(("generation_config.json", settings) for settings in GENERATION), ("config.json", GENERATION[0])],
    )
    def test_answers_are_greedy_whatever_they_say(
        self, file: str, settings: dict[str, Any], nano_folder: Path, small_nano: Maker
    ) -> None:
        plain = self.scores(small_nano())
        path = nano_folder / file
        before = path.read_text()
        path.write_text(json.dumps({**json.loads(before), **settings}))
        try:
            assert self.scores(small_nano(model=str(nano_folder))) == plain
        finally:
            path.write_text(before)

    def test_a_file_that_cannot_be_read_does_no_harm(self, folder: Path) -> None:
        (folder / "generation_config.json").write_text("{")
        load_model(str(folder))

    @pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
    def test_the_saved_model_is_greedy_too(self, file: str, folder: Path, small_nano: Maker, tmp_path: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({**content, "repetition_penalty": 5.0, "num_beams": 4, "min_length": 20}))
        session = Session(small_nano(model=str(folder), unit_samples=8, max_answer_tokens=16))
        session.start({"batch_size_per_device": 8}, seed=0)
        session.save_model(tmp_path / "saved")
        example = session.examples["validation"][0]
        [expected] = session.predict([example])
        session.close()
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
        assert saved.generation_config.to_diff_dict().keys() <= {
            "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version",
        }  # fmt: skip
        found = saved.generate(torch.tensor([example.prompt]), max_new_tokens=16)
        tokenizer = load_tokenizer(str(tmp_path / "saved"))
        assert tokenizer.decode(found[0, len(example.prompt) :], skip_special_tokens=True).strip() == expected
