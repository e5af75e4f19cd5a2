"""Any model: built by a function that is given by name, with weights, and measured.

A factory is `torchvision.models:resnet50`, or any other `package.module:function`; `timm:NAME`; or a function in a
file, `path/to/file.py:function`. It is called with keyword arguments and gives a torch.nn.Module.

Importing a module runs its code, and a call runs a function's. Whoever names a factory may be another than whoever runs
it, as with a configuration from elsewhere: what may run is therefore named apart, as `trust`.
"""

import functools
import importlib.util
import inspect
import pkgutil
import sys
import traceback
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from erf import images
from erf.errors import InputError, did_you_mean, is_damage, is_out_of_memory
from erf.extras import extra
from erf.field import ReceptiveField
from erf.files import check_archive, noted
from erf.layers import layer_output
from erf.measure import measure
from erf.networks import batch_norms, calibrate_batch_norm
from erf.seeds import seed_for
from erf.vision import import_torchvision, with_torchvision

CALIBRATION = 32  # images, at most, for the statistics of an untrained model's batch norms
LIBRARIES = ("erf", "torch.nn", "torchvision.models", "torchvision.ops")  # trusted with their models, but no further
UNPICKLING = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")  # arguments of timm's that name files
WRAPPERS = ("state_dict", "model")  # keys under which files of weights have them, beside an optimiser's and the like


def measure_model(
    settings: dict,
    device: torch.device,
    dtype: torch.dtype,
    batch_size: int | None = None,
    progress: bool = False,
    trust: Sequence[str] = (),
) -> ReceptiveField:
    """The field of a unit of a model, with a bootstrap over images.

    settings : `factory`, `kwargs`, `weights` and `seed` as in `load_model`; `layer` ("" for the model's own output),
        `unit` ("center" or [row, column]), `channels` and `mode` as in `erf.measure`; `images`, "noise" or a folder,
        of which `count` are taken, of `input_size` (height, width), and normalised by `mean` and `std`, whose length
        is the number of the images' channels
    batch_size, progress : as in `erf.measure`
    trust : as in `load_factory`; the settings have no say in it

    InputError for whatever is wrong with these. The same settings give the same field, and all models with the same
    seed get the same noise.
    """
    model = load_model(settings["factory"], settings["kwargs"], settings["weights"], settings["seed"], trust)
    shown = load_images(settings)
    model, layer = model.to(device, dtype), settings["layer"] or None
    if settings["weights"] == "none" and is_untrained(model):
        calibrate_batch_norm(
            model, shown[:CALIBRATION].to(device, dtype), lambda batch: layer_output(model, batch, layer)
        )
    field = measure(
        model,
        shown,
        layer,
        settings["unit"] if settings["unit"] == "center" else tuple(settings["unit"]),
        settings["channels"],
        settings["mode"],
        batch_size=batch_size,
        rng=np.random.default_rng(seed_for(settings["seed"], "bootstrap")),
        progress=progress,
    )
    field.settings.update(model=settings)
    return field


def load_images(settings: dict) -> torch.Tensor:
    """The images of `settings` as `measure_model` has them, float32 (count, channels, height, width)."""
    count, size, seed = settings["count"], tuple(settings["input_size"]), settings["seed"]
    mean, std = settings["mean"], settings["std"]
    if len(mean) != len(std):
        raise InputError(
            f"a mean for {len(mean)} channels and a std for {len(std)}: give one of each for every channel"
        )
    if settings["images"] == "noise":
        return images.noise(count, size, seed, len(mean))
    if len(mean) not in images.MODES:
        raise InputError(f"images of a folder have 3 channels, or 1, not the {len(mean)} of mean and std")
    return images.from_folder(Path(settings["images"]), count, size, mean, std, seed)


def load_model(
    factory: str, kwargs: dict | None = None, weights: str = "none", seed: int = 0, trust: Sequence[str] = ()
) -> nn.Module:
    """What a factory builds.

    weights : "none" leaves the model as the factory gives it, which draws its random weights from a stream that
        follows from `seed`; "default" asks torchvision or timm for its own, which it may have to download; else the
        path of a state dict, alone or under the key "state_dict" or "model"
    trust : as in `load_factory`

    InputError for a factory that is not trusted, is not there or fails, and for weights that are damaged or another
    model's.
    """
    build, arguments = load_factory(factory, trust), dict(kwargs or {})
    if factory.startswith("timm:") and (found := next((key for key in UNPICKLING if key in arguments), None)):
        raise InputError(f"{factory} takes no {found} here, which may be a pickle: give a state dict as weights")
    if weights == "default":
        arguments |= library_weights(factory, build)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_for(seed, "weights"))
            model = build(**arguments)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        if weights == "default" and isinstance(error, OSError):
            problem = "cannot be fetched; without a network give the path of a file, or none"
            raise InputError(f"the default weights of {factory} {problem} ({in_one_line(error)})") from error
        raise InputError(f"{factory} fails: {in_one_line(error, factory)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{factory} gives a value of type {type(model).__name__}, not a torch.nn.Module")
    if weights not in ("none", "default"):
        load_weights(model, Path(weights), factory)
    return model


def load_factory(name: str, trust: Sequence[str] = ()) -> Callable[..., nn.Module]:
    """The function that a factory's name stands for.

    trust : modules and packages, and paths of .py files, that may be imported, and whose functions may be called;
        beside them the model classes of `LIBRARIES`, and the models that torchvision and timm list

    InputError for a factory that is not there, and for one that is not trusted, before any of its code has run.
    """
    place, _, function = name.rpartition(":")
    if not place or not function:
        forms = "torchvision.models:resnet50, timm:NAME, package.module:function or path/to/file.py:function"
        raise InputError(f"{name!r} names no factory: write {forms}")
    if place == "timm":
        timm = with_torchvision(lambda: extra("timm", "timm", name))
        if not timm.is_model(function):
            raise InputError(f"timm has no model {function!r}{did_you_mean(function, timm.list_models())}")
        return functools.partial(timm.create_model, function)
    own = lies_in(place, trust)
    if not own and not lies_in(place, LIBRARIES):
        near = did_you_mean(place, [*LIBRARIES, *trust])
        raise InputError(f"{place} is not trusted, and to import it runs its code{near or how_to_trust(place)}")
    module = module_in_file(Path(place)) if place.endswith(".py") else module_by_name(place, own)
    factory = getattr(module, function, None)
    if not callable(factory):
        known = [known for known, value in vars(module).items() if callable(value)]
        raise InputError(f"{place} has no function {function!r}{did_you_mean(function, known)}")
    called = factory
    while isinstance(called, functools.partial):
        called = called.func
    home = getattr(called, "__module__", None) or "no module"
    if not (lies_in(home, trust) or (own and home == module.__name__) or is_model_of_a_library(called, home)):
        if lies_in(home, LIBRARIES):
            raise InputError(f"{name} is no model: name a class of models, or a function that torchvision lists as one")
        raise InputError(f"{name} is defined in {home}, which is not trusted{how_to_trust(home)}")
    return factory


def lies_in(place: str, trusted: Sequence[str]) -> bool:
    """Whether a module's name, or the path of a .py file, is one of the trusted, or a module in a trusted package."""
    if place.endswith(".py"):
        return any(one.endswith(".py") and Path(one).resolve() == Path(place).resolve() for one in trusted)
    return any(place == one or place.startswith(f"{one}.") for one in trusted)


def how_to_trust(place: str) -> str:
    """The end of a line on code that is not trusted."""
    return f": if you know what it does, add --trust {place}, for snakemake --config trust={place}"


def is_model_of_a_library(factory: Callable, home: str) -> bool:
    """Whether a factory, defined in the module `home`, is a model class of `LIBRARIES` or one that torchvision lists.

    Their other functions do whatever they are for, such as to write files.
    """
    if inspect.isclass(factory):
        return issubclass(factory, nn.Module) and lies_in(home, LIBRARIES)
    if not lies_in(home, ["torchvision.models"]):
        return False
    models = import_torchvision().models
    return any(models.get_model_builder(name) is factory for name in models.list_models())


def module_by_name(name: str, own: bool) -> ModuleType:
    """An installed module; or, if it is one of the user's `own`, one in the working folder. The caller trusts it."""
    if own:
        sys.path.append(str(Path.cwd()))
    try:
        return with_torchvision(lambda: importlib.import_module(name))
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            raise InputError(f"{name} cannot be imported: {in_one_line(error)}") from error
        parent, _, missing = error.name.rpartition(".")
        beside = getattr(sys.modules.get(parent), "__path__", ()) if parent else None
        known = [module.name for module in pkgutil.iter_modules(beside)]
        raise InputError(f"there is no module {error.name!r}{did_you_mean(missing, known)}") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{name} cannot be imported: {in_one_line(error)}") from error
    finally:
        if own:
            sys.path.pop()


def module_in_file(path: Path) -> ModuleType:
    """A file run as a module, which may import what lies beside it; the caller trusts it."""
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"factory_in_{path.stem}", noted(path))
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up there
    sys.path.append(str(path.parent))
    try:
        with_torchvision(lambda: spec.loader.exec_module(module))
    except (Exception, SystemExit) as error:
        raise InputError(f"{path} cannot be imported: {in_one_line(error, f'{path}:')}") from error
    finally:
        sys.path.pop()
    return module


def library_weights(factory: str, build: Callable) -> dict:
    """Keyword arguments with which a library's factory gives its own trained weights."""
    if factory.startswith("timm:"):
        return {"pretrained": True}
    if factory.startswith("torchvision."):
        try:
            return {"weights": import_torchvision().models.get_model_weights(build).DEFAULT}
        except (ValueError, AttributeError) as error:
            raise InputError(f"torchvision has no weights for {factory}") from error
    raise InputError(f"{factory} has no default weights, which are torchvision's and timm's: give a file, or none")


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the state dict in a file into the model, all of it; `name` is the model's in errors."""
    if not path.is_file():
        raise InputError(f"{path}: no such file of weights")
    try:
        if zipfile.is_zipfile(noted(path)):
            check_archive(path)  # torch itself looks at no checksum
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file brings torch, zipfile and the unpickler to
        if not is_damage(error):
            raise
        raise InputError(f"{path}: damaged, or more than tensors: save a model's state_dict()") from error
    while isinstance(state, dict) and (wrapper := next((key for key in WRAPPERS if key in state), None)):
        state = state[wrapper]
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: no state dict in it: save a model's state_dict()")
    state = {key.removeprefix("module."): value for key, value in state.items()}  # DataParallel's prefix
    own = model.state_dict()
    for key in own.keys() & state.keys():
        if (found := getattr(state[key], "shape", None)) != own[key].shape:
            shapes = [" x ".join(map(str, shape)) or "a number" for shape in (found or (), own[key].shape)]
            raise InputError(f"{path}: not the weights of {name}: {key} is {shapes[0]}, not {shapes[1]}")
    missing, unknown = model.load_state_dict(state, strict=False)
    if missing or unknown:
        first = f"{missing[0]} is missing{did_you_mean(missing[0], state)}" if missing else f"{unknown[0]} is not in it"
        more = f", and {len(missing) + len(unknown) - 1} others" if len(missing) + len(unknown) > 1 else ""
        raise InputError(f"{path}: not the weights of {name}: {first}{more}")


def is_untrained(model: nn.Module) -> bool:
    """Whether all batch norms have the statistics that they begin with: a factory may give trained ones."""
    norms = [norm for norm in batch_norms(model) if norm.running_mean is not None]
    return bool(norms) and not any(norm.running_mean.any() or (norm.running_var != 1).any() for norm in norms)


def in_one_line(error: BaseException, factory: str = "") -> str:
    """An exception in words, with the line of the factory's file in which it was raised, if it is in a file."""
    file = factory.rpartition(":")[0]
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == Path(file).absolute()]
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]}…"
    what = f"it called sys.exit({text})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {text}"
    return what + (f" ({file}, line {lines[-1]})" if lines else "")
