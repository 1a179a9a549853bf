"""One rank's DeepSpeed session: train a unit, evaluate, save, load, change hyperparameters.

The loop drives the DeepSpeed engine itself, so that a trial can be paused after any unit, cloned, and continued
with other hyperparameters. Where nothing is changed it equals Hugging Face Trainer with the same DeepSpeed
configuration step for step: same data order, decay groups, schedule, token-weighted loss over the global batch.
(Trainer's last batch of an epoch is smaller where the batch size does not divide the data; here the next epoch
fills it up.)

A `Session` outlives its trials: tokenised data and base weights stay, and `start` makes a new engine around a
fresh copy of the weights. `run_unit` is what a search calls; a unit is `unit_samples` training samples, whatever
the batch size, rounded to whole batches.
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import inspect
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.hyperparameters import FIXED_IN_A_TRIAL, Hyperparameters
from benchmarks.space import Config
from benchmarks.spec import SPLITS, Benchmark, BenchmarkError, first_line
from benchmarks.tasks import question_answering as squad
from benchmarks.training import lora, memory
from benchmarks.training.deepspeed import Precision, fill
from benchmarks.training.lengths import group_by_length

if TYPE_CHECKING:  # torch and deepspeed cost seconds to import; only processes that train pay for them
    import torch

M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1  # from malloc.h
CHECKPOINT_TAG = "unit"
STEPS_PER_CHECK = 8  # before fp16's loss scale, halved at every overflow, reaches its minimum, where DeepSpeed raises


def prepare_process(threads: int, keep_freed_memory: bool = True) -> None:
    """Settle what a process must know before torch and deepspeed are imported. Call once, first.

    Args:
        threads: CPU threads for tensor operations.
        keep_freed_memory: tell glibc not to hand freed pages back after every step; measured on 2 cores,
            up to half of a CPU step was the kernel taking pages and giving them back (`benchmarks.measure.speed`).
    """
    if keep_freed_memory:
        _keep_freed_memory()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # DeepSpeed asks torch to unpickle whatever a checkpoint holds
    import torch

    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"


def _keep_freed_memory() -> None:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)


def join_process_group(rank: int = 0, world_size: int = 1, local_rank: int = 0, store: Any = None) -> None:
    """Join the process group of a trial's ranks; without arguments, a group of one. Joining again does nothing.

    Args:
        rank: this process's place, from 0.
        world_size: ranks of the trial.
        local_rank: index of this rank's device among those visible on its node.
        store: a `torch.distributed` store that all ranks share; needed where `world_size` > 1.
    """
    import torch
    from torch._C._distributed_c10d import HashStore

    if torch.distributed.is_initialized():
        return
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_RANK=str(local_rank))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    backend, store = "nccl" if on_gpu else "gloo", store or HashStore()
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    import_deepspeed()


def import_deepspeed() -> Any:
    """DeepSpeed, quiet, and without its shared-memory reduction, which it would compile on first use.

    gloo reduces between CPU ranks as it is; the compiled kernel would only be a faster way to the same sums,
    and costs 20 s and a C++ compiler.
    """
    import logging

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    with _without("mlflow"):  # DeepSpeed's autotuner imports it if it can: most of a second in every rank
        import deepspeed

    deepspeed.utils.logger.setLevel(logging.ERROR)
    _allow_in_checkpoints()
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def _allow_in_checkpoints() -> None:
    """Name the classes that DeepSpeed writes into its checkpoints beside tensors; torch reads no others."""
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Make a module that is not imported yet look absent to optional imports."""
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]


class Session:
    """One rank of a trial.

    Args:
        benchmark: a benchmark with a `finetune` block.

    Raises:
        BenchmarkError: model or data cannot be used.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        import torch

        assert benchmark.finetune is not None
        assert torch.distributed.is_initialized()
        self._benchmark, self._settings = benchmark, benchmark.finetune
        self._deepspeed = import_deepspeed()
        self._rank, self._world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        on_gpu = torch.cuda.is_available()
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self._precision = choose_precision(self._settings.precision)
        self._tokenizer = load_tokenizer(self._settings.model)
        self._base_model = load_model(self._settings.model)
        self._splits: dict[str, list[squad.Example]] = {}
        self._forward_options = set(inspect.signature(self._base_model.forward).parameters)
        self._engine: Any = None
        _hide_from_collector()

    @property
    def max_units(self) -> int:
        """Units of a full training."""
        return self._benchmark.resource.max_units

    @property
    def hyperparameters(self) -> Hyperparameters:
        """The current trial's."""
        return self._hp

    @property
    def engine(self) -> Any:
        """The current trial's DeepSpeed engine."""
        return self._engine

    # ---- what a search calls

    def start(self, config: Config, seed: int) -> dict[str, float]:
        """Begin a trial from the base weights; returns `startup_seconds`.

        Args:
            config: hyperparameters over the benchmark's default.
            seed: drives weights that are not pretrained, dropout and data order.

        Raises:
            BenchmarkError: a hyperparameter out of range, or a DeepSpeed value that disagrees with it.
        """
        began = time.perf_counter()
        self.close()
        _seed_everything(seed)
        memory.reset_peak(self._device)
        self._seed, self._units, self._samples = seed, 0, 0
        self._order: dict[int, list[int]] = {}
        self._hp = self._benchmark.hyperparameters(config)
        self._engine = self._make_engine()
        self.examples("train")
        self.examples("validation")
        return {"startup_seconds": time.perf_counter() - began}

    def run_unit(self) -> dict[str, float]:
        """Train one resource unit and evaluate on validation.

        Returns:
            `units` reached, `train_loss`, the keys of `evaluate`, `samples_per_second`, `peak_memory_mb`,
            `train_seconds`, `evaluate_seconds`. A train loss that is not finite leaves out the evaluation:
            `eval_loss` is NaN, `exact_match` and `f1` are 0.
        """
        began, samples_before = time.perf_counter(), self._samples
        train_loss = self._train_unit()
        trained = time.perf_counter()
        scores = self.evaluate() if math.isfinite(train_loss) else dict(_NO_SCORES)
        ended = time.perf_counter()
        return {
            "units": self._units,
            "train_loss": train_loss,
            **scores,
            "samples_per_second": (self._samples - samples_before) / (trained - began),
            "peak_memory_mb": memory.peak_mb(self._device),
            "train_seconds": trained - began,
            "evaluate_seconds": ended - trained,
        }

    def set_hyperparameters(self, config: Config) -> None:
        """Continue with other hyperparameters from the next step on; weights and optimizer moments stay.

        A batch size that changes gives a new engine around the same weights and moments. Everything that an
        optimizer's param group carries is overwritten, because a restored state brings the old values along.

        Raises:
            BenchmarkError: a hyperparameter out of range, one that cannot change, or a batch size that changes at a
                ZeRO stage above 0.
        """
        before, self._hp = self._hp, self._benchmark.hyperparameters(config)
        for name in FIXED_IN_A_TRIAL:
            if getattr(before, name) != getattr(self._hp, name):
                raise BenchmarkError(
                    f"{name} cannot change within a trial, from {getattr(before, name)} to {getattr(self._hp, name)}"
                )
        if _engine_settings(before) != _engine_settings(self._hp):
            if self._engine.zero_optimization_stage() > 0:
                raise BenchmarkError(
                    "batch_size_per_device, gradient_accumulation_steps and max_grad_norm can change within a trial "
                    f"at ZeRO stage 0 alone, but the stage is {self._engine.zero_optimization_stage()}"
                )
            state = copy.deepcopy(self._engine.optimizer.state_dict())
            weights = {name: value.detach().clone() for name, value in self._engine.module.state_dict().items()}
            self.close()
            self._engine = self._make_engine(weights)
            self._engine.optimizer.load_state_dict(state)
        self._write_hyperparameters()

    def save(self, folder: Path) -> None:
        """Write weights, optimizer state and position to `folder`; every rank calls it."""
        position = {"units": self._units, "samples": self._samples, "seed": self._seed}
        self._engine.save_checkpoint(str(folder), tag=CHECKPOINT_TAG, client_state=position)

    def load(self, folder: Path) -> None:
        """Continue from what `save` wrote, with the hyperparameters of this trial, not the saved ones."""
        path, position = self._engine.load_checkpoint(str(folder), tag=CHECKPOINT_TAG, load_lr_scheduler_states=False)
        assert path is not None, f"no checkpoint in {folder}"
        self._units, self._samples, self._seed = position["units"], position["samples"], position["seed"]
        self._order.clear()
        self._write_hyperparameters()

    def save_model(self, folder: Path) -> None:
        """Write the trained model, as safetensors, and its tokenizer to `folder`; every rank calls it.

        What is written is what `evaluate` scores: the engine's weights, in the precision it computes with.
        """
        import torch

        weights = self._whole_weights()
        if self._rank == 0:
            model = self._engine.module
            if self._hp.lora_rank:
                model, weights = self._base_model, lora.merged(self._make_model(), weights)
            model.generation_config.update(  # a plain `generate` then ends as `predict` does
                eos_token_id=self._tokenizer.eos_token_id, pad_token_id=self._tokenizer.pad_token_id
            )
            model.save_pretrained(folder, state_dict=weights)
            self._tokenizer.save_pretrained(folder)
        torch.distributed.barrier()

    def _whole_weights(self) -> dict[str, torch.Tensor]:
        """All weights on the CPU of rank 0, nothing on the others. ZeRO-3's shares are gathered one by one."""
        whole: dict[int, torch.Tensor] = {}  # by parameter, so that tied weights stay one
        named = self._engine.module.state_dict(keep_vars=True)
        for weight in named.values():
            gathered = self._deepspeed.zero.GatheredParameters([weight], enabled=hasattr(weight, "ds_id"))
            with gathered:
                if self._rank == 0 and id(weight) not in whole:
                    whole[id(weight)] = weight.detach().to("cpu", copy=True)
        return {name: whole[id(weight)] for name, weight in named.items()} if self._rank == 0 else {}

    def close(self) -> None:
        """End the current trial; the session can start another."""
        if self._engine is not None:
            self._engine.destroy()
            self._engine = None
            gc.collect()  # engines sit in reference cycles; of itself the collector would come once in dozens of trials

    # ---- training

    def train_step(self) -> torch.Tensor:
        """One optimizer step; returns the global batch's mean loss per answer token, on this rank's share `()`."""
        import torch

        micro_batches = self._next_global_batch()
        num_tokens = sum(len(e.target) for micro in micro_batches for e in micro)
        self._set_learning_rate()
        total = torch.zeros((), device=self._device)
        for micro in micro_batches:
            size = self._hp.batch_size_per_device
            own = micro[self._rank * size : (self._rank + 1) * size]
            # DeepSpeed averages gradients over ranks: times world_size gives the mean over the global batch.
            loss = self._loss_sum(own) / num_tokens
            self._engine.backward(loss * self._world_size, scale_wrt_gas=False)
            self._engine.step()
            total += loss.detach()
        self._samples += self._global_batch_size
        return total

    def _train_unit(self) -> float:
        """Steps up to the next unit boundary; the mean train loss of the unit over all ranks."""
        boundary = (self._units + 1) * self._benchmark.resource.unit_samples
        losses: list[torch.Tensor] = []
        while self._samples + self._global_batch_size / 2 <= boundary:
            losses.append(self.train_step())
            if len(losses) % STEPS_PER_CHECK == 0 and not math.isfinite(self._mean_loss(losses[-STEPS_PER_CHECK:])):
                break
        self._units += 1
        return self._mean_loss(losses) if losses else 0.0

    def _mean_loss(self, losses: list[torch.Tensor]) -> float:
        """Mean over steps of the global batch's loss, the same number on every rank."""
        import torch

        mean = torch.stack(losses).mean()
        torch.distributed.all_reduce(mean)
        return float(mean)

    def _loss_sum(self, examples: Sequence[squad.Example]) -> torch.Tensor:
        """Summed cross entropy of the answer tokens, `()`.

        Sequences are padded on the left, so that answers end together and logits are needed for the last few
        positions only: with BLOOM's vocabulary of 250,880 the others would be most of the memory.
        """
        import torch

        longest = self._settings.max_length if self._settings.pad_to_max else 0
        batch = _pad([e.prompt + e.target for e in examples], self._tokenizer.pad_token_id, self._device, longest)
        kept = max(len(e.target) for e in examples)
        labels = _pad([e.target for e in examples], squad.IGNORED_LABEL, self._device)["input_ids"]
        if "logits_to_keep" in self._forward_options:
            logits = self._engine(**self._model_inputs(batch), logits_to_keep=kept + 1).logits
        else:
            logits = self._engine(**self._model_inputs(batch)).logits
        predicted = logits[:, -kept - 1 : -1].float()
        return torch.nn.functional.cross_entropy(
            predicted.flatten(0, 1), labels.flatten(), ignore_index=squad.IGNORED_LABEL, reduction="sum"
        )

    def _model_inputs(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Positions count from the first real token where a model takes them (BLOOM derives them itself)."""
        if "position_ids" not in self._forward_options:
            return batch
        return {**batch, "position_ids": (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)}

    def _next_global_batch(self) -> list[list[squad.Example]]:
        """The next optimizer step's examples: one list per forward pass, all ranks' shares in order of rank."""
        train, size = self.examples("train"), self._hp.batch_size_per_device * self._world_size
        picked = [train[self._sample_at(self._samples + i)] for i in range(self._global_batch_size)]
        return [picked[i : i + size] for i in range(0, len(picked), size)]

    def _sample_at(self, position: int) -> int:
        """Index of the `position`-th training sample.

        Epoch e is a permutation seeded with seed + e, as in accelerate's SeedableRandomSampler, which Trainer uses.
        """
        epoch, offset = divmod(position, len(self.examples("train")))
        if epoch not in self._order:
            self._order = {epoch: self._order_of(epoch)}
        return self._order[epoch][offset]

    def _order_of(self, epoch: int) -> list[int]:
        import torch

        train, generator = self.examples("train"), torch.Generator().manual_seed(self._seed + epoch)
        order: list[int] = torch.randperm(len(train), generator=generator).tolist()
        if self._settings.length_grouped:
            return group_by_length(order, [e.length for e in train])
        return order

    @property
    def _global_batch_size(self) -> int:
        return self._hp.batch_size_per_device * self._hp.gradient_accumulation_steps * self._world_size

    def _set_learning_rate(self) -> None:
        step = self._samples / self._global_batch_size
        total_steps = max(1, round(self._benchmark.resource.total_samples / self._global_batch_size))
        rate = self._hp.learning_rate * learning_rate_factor(step, total_steps, self._hp)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = rate

    def _write_hyperparameters(self) -> None:
        for group in self._engine.optimizer.param_groups:
            group["weight_decay"] = self._hp.weight_decay if group["decays"] else 0.0
            group["betas"] = (self._hp.adam_beta1, self._hp.adam_beta2)
            group["eps"] = self._hp.adam_epsilon
        self._set_learning_rate()

    def _make_model(self) -> Any:
        """A fresh copy of the base model, on the CPU, as the trial's hyperparameters want it."""
        model = copy.deepcopy(self._base_model)
        if self._hp.lora_rank:
            lora.inject(model, self._hp)
        if self._hp.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        return model

    def _make_engine(self, weights: dict[str, torch.Tensor] | None = None) -> Any:
        """A DeepSpeed engine around a fresh copy of the base model, or of it with other `weights`."""
        import torch

        hp, model = self._hp, self._make_model()
        model.to(self._device)
        if weights is not None:
            model.load_state_dict(weights)
        model.train()
        optimizer = torch.optim.AdamW(
            decay_groups(model, hp.weight_decay),
            lr=hp.learning_rate,
            betas=(hp.adam_beta1, hp.adam_beta2),
            eps=hp.adam_epsilon,
            fused=True,
        )
        config = fill(self._settings.deepspeed, hp, self._precision, self._world_size, model.config.hidden_size)
        engine, *_ = self._deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        return engine

    # ---- evaluation

    def evaluate(self, split: str = "validation") -> dict[str, float]:
        """Scores on a whole split, over all ranks.

        Args:
            split: "train", "validation" or "test".

        Returns:
            `eval_loss` (mean cross entropy per answer token), `perplexity` (its exponential), `exact_match`
            and `f1` (means in [0, 1]).
        """
        import torch

        sums = torch.zeros(5, dtype=torch.float64)
        with self._at_rest():
            for batch, counts in self._rank_batches(self.examples(split)):
                loss, predictions = self._loss_and_answers(batch)
                tokens = sum(len(e.target) for e in batch)
                pairs = [(p, e.references) for p, e in zip(predictions, batch, strict=True)]
                exact, overlap = (sum(score(*pair) for pair in pairs) for score in (squad.exact_match, squad.f1))
                sums += counts * torch.tensor([float(loss), tokens, exact, overlap, len(batch)], dtype=torch.float64)
        torch.distributed.all_reduce(on_device := sums.to(self._device))
        loss_sum, tokens, exact, overlap, number = on_device.tolist()
        eval_loss = loss_sum / tokens
        return {
            "eval_loss": eval_loss,
            "perplexity": math.exp(min(eval_loss, 700.0)),
            "exact_match": exact / number,
            "f1": overlap / number,
        }

    @contextlib.contextmanager
    def _at_rest(self) -> Iterator[None]:
        """No dropout and no gradients meanwhile."""
        import torch

        self._engine.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self._engine.train()

    def predict(self, examples: Sequence[squad.Example]) -> list[str]:
        """Greedy answers, one per example: batched, with KV cache, each ending at the end token."""
        with self._at_rest():
            return self._generate(self._prompts(examples), cache=None)

    def _loss_and_answers(self, examples: Sequence[squad.Example]) -> tuple[float, list[str]]:
        """Summed cross entropy of the reference answers, and the greedy answers.

        Both need the prompt's keys and values, which are most of the work: they are computed once, the reference
        answers are scored on top of them, and generation goes on from the same cache.
        """
        import torch

        prompts, model = self._prompts(examples), self._engine.module
        width = prompts["input_ids"].shape[1]
        inputs = self._model_inputs(prompts)
        if "logits_to_keep" in self._forward_options:
            output = model(**inputs, use_cache=True, logits_to_keep=1)
        else:
            output = model(**inputs, use_cache=True)
        cache = output.past_key_values
        targets = _pad([e.target for e in examples], self._tokenizer.pad_token_id, self._device, left=False)
        mask = torch.cat([prompts["attention_mask"], targets["attention_mask"]], dim=1)
        following = {"input_ids": targets["input_ids"], "attention_mask": mask}
        if "position_ids" in self._forward_options:
            following["position_ids"] = (mask.cumsum(-1) - 1)[:, width:]
        scored = model(**following, past_key_values=cache, use_cache=True).logits
        logits = torch.cat([output.logits[:, -1:], scored[:, :-1]], dim=1).float()
        labels = targets["input_ids"].masked_fill(targets["attention_mask"] == 0, squad.IGNORED_LABEL)
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels.flatten(), ignore_index=squad.IGNORED_LABEL, reduction="sum"
        )
        cache.crop(-targets["input_ids"].shape[1] - 1)  # generation itself feeds the prompt's last token
        return float(loss), self._generate(prompts, cache)

    def _prompts(self, examples: Sequence[squad.Example]) -> dict[str, torch.Tensor]:
        longest = self._settings.max_length if self._settings.pad_to_max else 0
        return _pad([e.prompt for e in examples], self._tokenizer.pad_token_id, self._device, longest)

    def _generate(self, prompts: dict[str, torch.Tensor], cache: Any) -> list[str]:
        output = self._engine.module.generate(
            **prompts,
            past_key_values=cache,
            max_new_tokens=self._settings.max_answer_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=self._tokenizer.pad_token_id,
            eos_token_id=self._tokenizer.eos_token_id,
            synced_gpus=self._world_size > 1,
        )
        answers = self._tokenizer.batch_decode(output[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
        return [answer.strip() for answer in answers]

    def _rank_batches(self, examples: list[squad.Example]) -> Iterator[tuple[list[squad.Example], bool]]:
        """This rank's batches, of similar lengths to save padding, and whether each counts.

        ZeRO-3 gathers weights in every forward pass, so all ranks need equally many batches: a rank that has run
        out repeats the last one, uncounted.
        """
        size, ordered = self._settings.eval_batch_size, sorted(examples, key=lambda e: len(e.prompt))
        batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        for i in range(0, len(batches), self._world_size):
            own = i + self._rank
            yield (batches[own], True) if own < len(batches) else (batches[-1], False)

    def token_statistics(self) -> list[squad.TokenStatistics]:
        """What the tokens of the three splits are like; the test split is read for this alone, and never trained on."""
        limit = self._settings.max_length
        return [squad.token_statistics(name, self.examples(name), limit) for name in SPLITS]

    def examples(self, name: str) -> list[squad.Example]:
        """A split's examples, read and tokenised at first use and kept."""
        if name not in self._splits:
            records = squad.read_split(getattr(self._settings.data, name))
            self._splits[name] = squad.tokenize(
                records, self._tokenizer, self._settings.max_length, self._settings.max_answer_tokens, name == "train"
            )
        return self._splits[name]


def _hide_from_collector() -> None:
    """Hide what is loaded by now from the collector: `close` then looks at its trial alone, in 10 ms, not 500."""
    if gc.get_freeze_count():  # a session before this one may have ended
        gc.unfreeze()
        gc.collect()
    gc.freeze()


_NO_SCORES = {"eval_loss": math.nan, "perplexity": math.nan, "exact_match": 0.0, "f1": 0.0}


def learning_rate_factor(step: float, total_steps: int, hp: Hyperparameters) -> float:
    """The schedule's factor in [0, 1] at `step` of `total_steps`: warm-up, then linear, cosine or constant.

    Equals `transformers.get_scheduler` at whole steps; a fraction occurs after a change of batch size.
    """
    warmup_steps = math.ceil(total_steps * hp.warmup_ratio)
    if step < warmup_steps:
        return step / warmup_steps
    if hp.lr_scheduler == "constant":
        return 1.0
    remaining = max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
    return remaining if hp.lr_scheduler == "linear" else 0.5 * (1.0 - math.cos(math.pi * remaining))


def decay_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Param groups as Hugging Face Trainer makes them: biases and norms are not decayed."""
    import torch
    from transformers.trainer_pt_utils import get_parameter_names

    not_decayed = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]
    decayed = set(get_parameter_names(model, [torch.nn.LayerNorm], not_decayed))
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay, "decays": True},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]  # LoRA trains neither biases nor norms


def choose_precision(wanted: str) -> Precision:
    """The arithmetic for "auto" on this device; otherwise what is wanted.

    Raises:
        BenchmarkError: fp16 without a GPU.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if wanted == "fp16" and not on_gpu:
        raise BenchmarkError("precision is fp16, but there is no GPU; use fp32, bf16 or auto")
    if wanted == "auto":
        wanted = ("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16") if on_gpu else "fp32"
    return wanted  # type: ignore[return-value]  # the benchmark's field allows these alone


def load_tokenizer(model: str) -> Any:
    """The model's fast tokenizer, set up for left padding.

    Raises:
        BenchmarkError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, use_fast=True, trust_remote_code=False, padding_side="left")
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"model {model}: its tokenizer cannot be loaded ({first_line(error)})") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(model: str) -> Any:
    """The model in fp32 on the CPU, from safetensors only.

    Raises:
        BenchmarkError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            model, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise BenchmarkError(
            f"model {model}: cannot be loaded ({first_line(error)}); give a hub name this machine can reach, "
            "or a folder with config.json and *.safetensors"
        ) from None


def _engine_settings(hp: Hyperparameters) -> tuple[Any, ...]:
    """What a DeepSpeed engine takes at its making and cannot change later."""
    return hp.batch_size_per_device, hp.gradient_accumulation_steps, hp.max_grad_norm


def _pad(
    rows: Sequence[list[int]], value: int, device: torch.device, length: int = 0, left: bool = True
) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both `(batch, seq_len)`, padded to the longest row or to `length`."""
    import torch

    width = max(length, *(len(row) for row in rows))
    gaps = [width - len(row) for row in rows]
    ids = [[value] * gap + row if left else row + [value] * gap for row, gap in zip(rows, gaps, strict=True)]
    ones = [[0] * gap + [1] * (width - gap) for gap in gaps]
    mask = ones if left else [row[::-1] for row in ones]
    return {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}


def _seed_everything(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)
