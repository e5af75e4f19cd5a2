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
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from erf.errors import InputError, did_you_mean, is_out_of_memory
from erf.models.torchvision_import import import_torchvision, with_torchvision
from erf.models.trust import LIBRARIES, how_to_trust, lies_in
from erf.models.weights import library_weights, load_weights
from erf.system.extras import extra
from erf.system.files import noted
from erf.system.seeds import seed_for

UNPICKLING = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")  # arguments of timm's that name files


def load_model(
    factory: str, kwargs: dict | None = None, weights: str = "none", seed: int = 0, trust: Sequence[str] = ()
) -> nn.Module:
    """Build a model by the name of its factory.

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
        lacks = isinstance(error, TypeError) and re.search(r"missing \d+ required .*?'(\w+)'", str(error))
        fix = f': name it in kwargs, such as {{"{lacks[1]}": ...}}' if lacks else ""
        raise InputError(f"{factory} fails: {in_one_line(error, factory)}{fix}") from error
    if not isinstance(model, nn.Module):
        found = f"a value of type {type(model).__name__}, not a torch.nn.Module"
        raise InputError(f"{factory} gives {found}: let it return the model alone")
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
    if isinstance(factory, nn.Module):
        raise InputError(
            f"{name} is a model, not what builds one: write def build(): return {function}, and name build"
        )
    if not callable(factory):
        known = [known for known, value in vars(module).items() if callable(value)]
        other = f", but a value of type {type(factory).__name__}" if hasattr(module, function) else ""
        raise InputError(f"{place} has no function {function!r}{other}{did_you_mean(function, known)}")
    called = factory
    while isinstance(called, functools.partial):
        called = called.func
    home = getattr(called, "__module__", None) or "no module"
    if not (lies_in(home, trust) or (own and home == module.__name__) or is_model_of_a_library(called, home)):
        if lies_in(home, LIBRARIES):
            raise InputError(f"{name} is no model: name a class of models, or a function that torchvision lists as one")
        raise InputError(f"{name} is defined in {home}, which is not trusted{how_to_trust(home)}")
    return factory


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
    """Run a file as a module, which may import modules beside it. The caller trusts it."""
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


def in_one_line(error: BaseException, factory: str = "") -> str:
    """An exception in words, with the line of the factory's file in which it was raised, if it is in a file."""
    file = factory.rpartition(":")[0]
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == Path(file).absolute()]
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]}…"
    what = f"it called sys.exit({text})" if isinstance(error, SystemExit) else f"{type(error).__name__}: {text}"
    return what + (f" ({file}, line {lines[-1]})" if lines else "")
