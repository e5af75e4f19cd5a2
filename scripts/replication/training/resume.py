"""Snapshots, and the state from which a training that was stopped goes on; both survive a kill.

Everything random is drawn from streams named by seed and epoch (erf.system.seeds), so the state between two epochs is
the model, the optimiser and what has been noted down; a run resumed from it equals an undisturbed one, bit for bit on
the CPU.
"""

import contextlib
import io
import time
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import filelock
import torch
from torch import nn

from erf.errors import InputError, is_damage
from erf.system.files import atomic, checked, set_aside
from replication.training.speed import bf16_is_faster, convolutions, has_bf16, peak_memory, synchronise
from replication.training.trainer import Trainer, arithmetic


def snapshot_of(model: nn.Module, settings: dict, seed: int, epoch: int) -> dict:
    """A trained model by itself: its weights, and the settings from which it can be built again."""
    weights = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    return {"model": weights, "settings": settings, "seed": seed, "epoch": epoch}


def save_state(path: Path, state: dict) -> None:
    """torch.save, whole or not at all. By way of memory: a full disk is then an OSError, and the bytes know no name."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path, *keys: str) -> dict:
    """What `save_state` wrote, tensors and plain values only. InputError for a damaged file or one without `keys`."""
    checked(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch itself looks at no checksum
                raise zipfile.BadZipFile(f"{damaged} has changed")
        state = torch.load(path, weights_only=True, map_location="cpu")
        return {key: state[key] for key in keys}
    except Exception as error:  # whatever a damaged archive brings torch and zipfile to
        if not is_damage(error):
            raise
        reason = str(error).partition("\n")[0][:120]
        raise InputError(f"{path}: damaged or not one of ours ({reason}); delete it and run again") from error


def load_snapshot(path: Path) -> dict:
    """A snapshot, as `snapshot_of` gives it."""
    return load_state(path, "model", "settings", "seed", "epoch")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process, and make it; InputError if another one holds it, such as a job that outlived its
    Snakemake. The lock ends with the process, however that ends, where the file system has locks."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            yield
    except filelock.Timeout as error:
        raise InputError(
            f"{folder}: in use by another process; wait for it, or end it; if there is none, delete {folder / 'lock'}"
        ) from error


def check_settings(path: Path, found: dict, wanted: dict) -> None:
    """InputError that names the settings in which a file differs from what is wanted."""
    found, wanted = _flat(found), _flat(wanted)
    differing = [key for key in sorted({*found, *wanted}) if found.get(key) != wanted.get(key)]
    if differing:
        changes = "; ".join(f"{key} is {found.get(key)} there, {wanted.get(key)} here" for key in differing)
        raise InputError(f"{path}: made with other settings ({changes}); restore them, or delete it to start anew")


def _flat(settings: dict, prefix: str = "") -> dict:
    """Nested settings under dotted names."""
    flat = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


LAST, BEFORE = "state.pt", "state_before.pt"  # of the last epoch, and of the one before, should that be damaged


STATE = ("identity", "rows", "speed", "best", "model", "optimiser")


def settle_arithmetic(trainer: Trainer, resume: Path, wanted: str = "auto") -> Path:
    """The folder of a training's state under `resume`, apart for each arithmetic.

    wanted : "float32", "bf16", or "auto": on a CPU that has bf16 a new training takes it if its convolutions are faster
        so, and right, and one that was begun goes on as it began; on a GPU that has it, it is taken

    InputError where bf16 is wanted and the device has none.
    """
    if wanted == "bf16" and not has_bf16(trainer.device):
        raise InputError(f"arithmetic: this {trainer.device.type} has no bf16; set it to float32 or auto")
    if wanted != "auto":
        trainer.bf16 = wanted == "bf16"
    elif trainer.device.type == "cpu" and has_bf16(trainer.device):
        begun = [bf16 for bf16 in (True, False) if (resume / arithmetic(trainer.device, bf16) / LAST).exists()]
        if not begun:
            images, _ = next(iter(trainer.data.training_batches(1)))
            begun = [bf16_is_faster(convolutions(trainer.model, images), trainer.device)]
        trainer.bf16 = begun[0]
    return resume / trainer.arithmetic


def newest_state(folder: Path, epochs: list[int]) -> dict | None:
    """The newest state that is whole, if the snapshots of those `epochs` that it has seen are so too; otherwise None.
    What is damaged is set aside, with a warning."""
    states = (load_if_whole(folder / name, *STATE) for name in (LAST, BEFORE))
    state = next(filter(None, states), None)
    seen = [epoch for epoch in epochs if state and epoch < len(state["rows"])]
    return state if all(load_if_whole(folder / f"epoch_{epoch:03d}.pt", "model") for epoch in seen) else None


def load_if_whole(path: Path, *keys: str) -> dict | None:
    """What `load_state` gives; None where there is no file, or a damaged one, which is set aside with a warning."""
    try:
        return load_state(path, *keys)
    except FileNotFoundError:
        pass
    except InputError:
        warnings.warn(f"{path} is damaged: what it held is trained again", stacklevel=2)
        set_aside(path)
    return None


def run_training(trainer: Trainer, settings: dict, seed: int, folder: Path) -> Iterator[dict]:
    """Train to the end, from wherever `folder` says an earlier run was stopped; yields each new epoch's metrics.

    Afterwards `folder` holds `epoch_NNN.pt` for every epoch in settings["snapshots"] (0 is before training), and
    `state.pt`, whose "rows" and "speed" tell all epochs and whose "best" is the snapshot of the highest score on the
    validation split, the first of equals. The state is written last, so that a kill at any moment costs at most the
    epoch that it interrupts; a damaged state costs one more.
    """
    score = f"validation_{trainer.data.task.score}"
    identity = {**settings, "seed": seed, "arithmetic": trainer.arithmetic}
    state = newest_state(folder, settings["snapshots"])
    if state:
        check_settings(folder / LAST, state["identity"], identity)
        trainer.model.load_state_dict(state["model"])
        trainer.optimiser.load_state_dict(state["optimiser"])
    else:
        state = {"identity": identity, "rows": [], "speed": []}
    for epoch in range(len(state["rows"]), trainer.recipe.epochs + 1):
        started = time.perf_counter()
        row = {"epoch": epoch, **(trainer.train_epoch(epoch) if epoch else {})}
        synchronise(trainer.device)
        seconds = time.perf_counter() - started
        row |= trainer.evaluate("validation")
        snapshot = snapshot_of(trainer.model, settings, seed, epoch)
        if epoch in settings["snapshots"]:
            save_state(folder / f"epoch_{epoch:03d}.pt", snapshot)
        if all(row[score] > earlier[score] for earlier in state["rows"]):
            state["best"] = snapshot
        state["rows"].append(row)
        if epoch:
            memory = peak_memory(trainer.device)
            state["speed"].append({"epoch": epoch, "seconds": seconds, "peak_memory_mb": memory})
        state |= {"model": trainer.model.state_dict(), "optimiser": trainer.optimiser.state_dict()}
        if (folder / LAST).exists():
            (folder / LAST).replace(folder / BEFORE)
        save_state(folder / LAST, state)
        yield row
