"""Any model: factories, weights and images as users give them, and what is said of those that cannot be used."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import types
import warnings
import zipfile
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch import nn

import figure_models
import measure_model as script
from conftest import NETS, SCRIPTS, model_settings, settings_file
from erf.__main__ import main
from erf.errors import InputError
from erf.measuring.measure import measure
from erf.models import factory as models
from erf.models import images
from erf.models.batch_norm import batch_norms
from erf.models.measure_model import load_images, measure_model
from erf.models.torchvision_import import import_torchvision
from erf.result.field import ReceptiveField
from erf.system.seeds import torch_generator

RESNET = "torchvision.models:resnet18"


@pytest.fixture
def nets(tmp_path, monkeypatch) -> Path:
    """A working folder with nets.py in it."""
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measured(**changes) -> ReceptiveField:
    return measure_model(model_settings(**changes), torch.device("cpu"), torch.float32, trust=["nets.py"])


def load_model(factory: str, *arguments, **options) -> nn.Module:
    """What a factory builds, for somebody who trusts it."""
    return models.load_model(factory, *arguments, trust=[factory.rpartition(":")[0]], **options)


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# Factories.


def test_the_same_seed_gives_the_same_weights_and_leaves_the_callers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = load_model(RESNET, {"num_classes": 3})
    assert torch.equal(torch.rand(3), expected)
    assert same(first, load_model(RESNET, {"num_classes": 3}))
    assert not torch.equal(first.fc.weight, load_model(RESNET, {"num_classes": 3}, seed=1).fc.weight)
    assert first.fc.out_features == 3


def test_a_factory_in_a_file_may_import_what_lies_beside_it(nets):
    folder = nets / "elsewhere"
    folder.mkdir()
    (folder / "beside_it.py").write_text("WIDTH = 7\n")
    (folder / "net.py").write_text(
        "from dataclasses import dataclass\nfrom torch import nn\nfrom beside_it import WIDTH\n"
        "@dataclass\nclass Settings:\n    width: int = WIDTH\n"
        "def build():\n    return nn.Conv2d(3, Settings().width, 3)\n"
    )
    assert load_model("elsewhere/net.py:build").out_channels == 7
    assert str(folder) not in sys.path and "elsewhere" not in sys.path


@pytest.mark.parametrize("factory", ["own.py:build", "own:build", "torchvision.models:resnet18"])
def test_a_factory_may_import_torchvision_beside_any_torch(nets, factory):
    """In a new process, where nobody has imported it before, and torch's CPU build lacks its compiled operators."""
    (nets / "own.py").write_text("import torchvision\ndef build():\n    return torchvision.models.resnet18()\n")
    code = (
        "import sys; from erf.models.factory import load_model; load = load_model(sys.argv[1], trust=['own', 'own.py'])"
    )
    code += "; print(type(load).__name__)"
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    result = subprocess.run([sys.executable, "-c", code, factory], env=environment, capture_output=True, text=True)
    assert result.stdout == "ResNet\n", result.stderr


def test_a_factory_in_a_module_of_the_working_folder_and_a_class(nets):
    (nets / "own_package").mkdir()
    (nets / "own_package/part.py").write_text("from torch.nn import Conv2d\n")
    model = load_model("own_package.part:Conv2d", {"in_channels": 3, "out_channels": 2, "kernel_size": 1})
    assert isinstance(model, nn.Conv2d)
    assert str(nets) not in sys.path


def test_timms_models_by_name(monkeypatch):
    calls = []

    def create_model(name, **options):
        calls.append((name, options))
        return nn.Conv2d(3, 2, 1)

    known = ["convnext_tiny", "resnet50.a1_in1k"]
    timm = types.SimpleNamespace(create_model=create_model, list_models=lambda: known, is_model=known.__contains__)
    monkeypatch.setitem(sys.modules, "timm", timm)
    load_model("timm:convnext_tiny", {"in_chans": 1})
    load_model("timm:resnet50.a1_in1k", weights="default")
    assert calls == [("convnext_tiny", {"in_chans": 1}), ("resnet50.a1_in1k", {"pretrained": True})]
    with pytest.raises(InputError, match=r"timm has no model 'convnxt_tiny': did you mean convnext_tiny\?"):
        load_model("timm:convnxt_tiny")


def test_what_timm_needs_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(InputError, match=r"^timm:resnet50 needs timm: pip install timm$"):
        load_model("timm:resnet50")


@pytest.mark.parametrize(
    "factory, kwargs, message",
    [
        ("resnet18", {}, "'resnet18' names no factory: write torchvision.models:resnet50, timm:NAME, package.module"),
        ("torchvision.models:", {}, "'torchvision.models:' names no factory"),
        ("torchvision.models:resnet19", {}, r"torchvision.models has no function 'resnet19': did you mean resnet1"),
        ("torchvision.modles:resnet18", {}, r"there is no module 'torchvision.modles': did you mean models\?"),
        ("torchvison:resnet18", {}, "there is no module 'torchvison': did you mean torchvision"),
        ("nets.py:biuld", {}, r"nets.py has no function 'biuld': did you mean build\?"),
        ("nets:biuld", {}, r"nets has no function 'biuld': did you mean build\?"),
        ("net.py:build", {}, "net.py: no such file"),
        ("nets.py:WIDTH", {}, "nets.py has no function 'WIDTH', but a value of type int"),
        ("made.py:net", {}, r"made.py:net is a model, not what builds one: write def build\(\): return net, and name"),
        ("made.py:weights", {}, "made.py has no function 'weights', but a value of type OrderedDict"),
        (
            "made.py:both",
            {},
            "made.py:both gives a value of type tuple, not a torch.nn.Module: let it return the model",
        ),
        (
            "made.py:wide",
            {},
            r"made.py:wide fails: TypeError: .* missing 1 .* 'width': name it in kwargs, such as {\"wi",
        ),
        (
            "nets.py:build",
            {"wdith": 3},
            r"nets.py:build fails: TypeError: Net.__init__\(\) got an unexpected .* \(nets.py, line \d+\)$",
        ),
        ("nets.py:broken", {}, r"nets.py:broken fails: ValueError: in two lines \(nets.py, line \d+\)$"),
        ("nets.py:nothing", {}, "nets.py:nothing gives a value of type NoneType, not a torch.nn.Module"),
        (
            "faulty.py:build",
            {},
            r"faulty.py cannot be imported: ZeroDivisionError: division by zero \(faulty.py, line 2",
        ),
        ("faulty:build", {}, "faulty cannot be imported: ZeroDivisionError"),
        ("unfinished.py:build", {}, "unfinished.py cannot be imported: SyntaxError"),
        ("needy.py:build", {}, "needy.py cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
        ("needy:build", {}, "needy cannot be imported: ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_a_factory_that_cannot_be_used_is_named_with_the_reason_in_one_line(nets, factory, kwargs, message):
    (nets / "faulty.py").write_text("\n1 / 0\n")
    (nets / "unfinished.py").write_text("def build(:\n")
    (nets / "needy.py").write_text("import no_such_package\n")
    made = "from torch import nn\nnet = nn.Conv2d(3, 2, 3)\nweights = net.state_dict()\n"
    (nets / "made.py").write_text(f"{made}def both():\n    return net, 0\ndef wide(width):\n    return net\n")
    with pytest.raises(InputError, match=f"^{message}") as caught:
        load_model(factory, kwargs)
    assert "\n" not in str(caught.value)


def test_running_out_of_memory_is_not_the_factorys_fault(nets):
    (nets / "huge.py").write_text("def build():\n    raise MemoryError\n")
    with pytest.raises(MemoryError):
        load_model("huge.py:build")


# Weights.


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"model": {"state_dict": state}},
    ],
    ids=["alone", "state_dict", "model, parallel", "nested"],
)
def test_weights_of_a_file(nets, wrap):
    other = load_model("nets.py:build", seed=1)
    torch.save(wrap(other.state_dict()), "weights.pt")
    assert same(load_model("nets.py:build", weights="weights.pt"), other)
    assert not same(load_model("nets.py:build"), other)


def test_weights_that_do_not_fit_are_named(nets):
    def message(state) -> str:
        torch.save(state, "weights.pt")
        with pytest.raises(InputError) as caught:
            load_model("nets.py:build", weights="weights.pt")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    good = load_model("nets.py:build").state_dict()
    renamed = {key.replace("conv", "cnv"): value for key, value in good.items()}
    prefix = "weights.pt: not the weights of nets.py:build: "
    assert message(renamed).startswith(f"{prefix}conv.weight is missing: did you mean cnv.weight, ")
    assert message(renamed).endswith("?, and 3 others")
    assert message(good | {"more": torch.zeros(1)}) == f"{prefix}more is not in it"
    assert message(good | {"conv.bias": torch.zeros(9, 1)}) == f"{prefix}conv.bias is 9 x 1, not 4"
    assert message(good | {"conv.bias": 3}) == f"{prefix}conv.bias is a number, not 4"
    for strange in (torch.zeros(3), {"epoch": 3}, [], {"state_dict": 5}):
        assert message(strange) == "weights.pt: no state dict in it: save a model's state_dict()"


def test_weights_in_which_a_bit_has_turned_are_named(nets):
    torch.save(load_model("nets.py:build").state_dict(), "weights.pt")
    content = bytearray(Path("weights.pt").read_bytes())
    place = content.index(load_model("nets.py:build").conv.weight.detach().numpy().tobytes()) + 17
    content[place] ^= 1
    Path("weights.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"^weights.pt: damaged"):
        load_model("nets.py:build", weights="weights.pt")
    torch.save(load_model("nets.py:build", seed=1).state_dict(), "old.pt", _use_new_zipfile_serialization=False)
    assert same(load_model("nets.py:build", weights="old.pt"), load_model("nets.py:build", seed=1))


def test_weights_that_unpack_to_more_than_they_account_for_are_refused(nets):
    with zipfile.ZipFile("weights.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"")
        archive.getinfo("archive/data.pkl").file_size = 2**40  # as the directory at the end has it
    with pytest.raises(InputError, match=r"^weights.pt: damaged") as caught:
        load_model("nets.py:build", weights="weights.pt")
    assert "1099511627776 bytes when unpacked" in str(caught.value.__cause__)


@pytest.mark.parametrize("content", [b"", b"no weights", None], ids=["empty", "text", "cut"])
def test_damaged_weights_are_named(nets, content):
    torch.save(load_model("nets.py:build").state_dict(), "weights.pt")
    whole = Path("weights.pt").read_bytes()
    Path("weights.pt").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"^weights.pt: damaged, or more than tensors: save a model's state_dict"):
        load_model("nets.py:build", weights="weights.pt")
    with pytest.raises(InputError, match=r"^elsewhere.pt: no such file of weights$"):
        load_model("nets.py:build", weights="elsewhere.pt")


def test_a_librarys_own_weights(monkeypatch):
    api = import_torchvision().models._api
    other = load_model(RESNET, seed=1)
    asked = []

    def download(url, *arguments, **options):
        asked.append(url)
        return other.state_dict()

    monkeypatch.setattr(api, "load_state_dict_from_url", download)
    assert same(load_model(RESNET, weights="default"), other)
    assert len(asked) == 1 and re.search(r"resnet18-\w+\.pth$", asked[0])

    def no_network(*arguments, **options):
        raise URLError("Name or service not known")

    monkeypatch.setattr(api, "load_state_dict_from_url", no_network)
    with pytest.raises(
        InputError, match=r"^the default weights of .*resnet18 cannot be fetched; without a network give"
    ):
        load_model(RESNET, weights="default")


def test_default_weights_are_those_of_a_library(nets):
    with pytest.raises(InputError, match=r"^nets.py:build has no default weights, which are torchvision's and timm's"):
        load_model("nets.py:build", weights="default")
    with pytest.raises(InputError, match=r"^torchvision has no weights for torchvision.ops:Conv2dNormActivation$"):
        load_model("torchvision.ops:Conv2dNormActivation", weights="default")


# Images.


def picture(path: Path, pixels: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def test_noise_is_normal_and_follows_the_seed():
    drawn = images.noise(20, (30, 40), seed=3)
    assert drawn.shape == (20, 3, 30, 40) and drawn.dtype == torch.float32
    assert abs(drawn.mean().item()) < 0.01 and abs(drawn.std().item() - 1) < 0.01
    assert torch.equal(images.noise(20, (30, 40), seed=3), drawn)
    assert not torch.equal(images.noise(20, (30, 40), seed=4), drawn)


def test_images_are_drawn_from_a_folder_and_the_folders_in_it(tmp_path):
    for number, name in enumerate(["b.png", "a.JPG", "deep/er/c.bmp", "d.tiff", "deep/e.webp"]):
        picture(tmp_path / name, np.full((8, 8, 3), 10 * number, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    names = [path.relative_to(tmp_path).as_posix() for path in images.image_paths(tmp_path)]
    assert names == ["a.JPG", "b.png", "d.tiff", "deep/e.webp", "deep/er/c.bmp"]

    def levels(count: int, seed: int) -> list[int]:
        drawn = images.from_folder(tmp_path, count, (4, 4), (0, 0, 0), (1, 1, 1), seed)
        return [round(255 * image.mean().item()) for image in drawn]

    assert levels(5, 0) == [10, 0, 30, 40, 20]
    draws = {tuple(levels(3, seed)) for seed in range(20)}
    assert len(draws) > 5 and all(len(set(draw)) == 3 for draw in draws)
    assert levels(3, 7) == levels(3, 7)


def test_an_image_is_cropped_around_its_middle_resized_and_normalised(tmp_path):
    pixels = np.zeros((10, 40, 3), np.uint8)
    pixels[:, 10:30] = (255, 128, 64)  # the middle 20 columns, as wide as 10 x 20 pixels
    picture(tmp_path / "wide.png", pixels)
    (shown,) = images.from_folder(tmp_path, 1, (5, 10), (0.5, 0.25, 0), (0.5, 1, 2), seed=0)
    assert shown.shape == (3, 5, 10) and shown.dtype == torch.float32
    expected = torch.tensor([1, 128 / 255 - 0.25, 64 / 255 / 2])
    inside = shown[:, :, 2:-2]  # at the rim the colours beside it are mixed in
    assert torch.allclose(inside, expected[:, None, None].expand_as(inside), atol=1e-6)
    upright = np.zeros((40, 10, 3), np.uint8)
    upright[:20] = 255
    picture(tmp_path / "wide.png", upright)
    (shown,) = images.from_folder(tmp_path, 1, (10, 10), (0, 0, 0), (1, 1, 1), seed=0)
    assert (shown[:, :4] == 1).all() and (shown[:, 6:] == 0).all()


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_any_kind_of_picture_becomes_rgb(tmp_path, mode):
    picture(tmp_path / "x.tiff", np.full((6, 6, 3), 255, np.uint8), mode)
    assert (images.read_image(tmp_path / "x.tiff", (3, 3)) == 1).all()


RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 11  # 24 levels from 0 to 253


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_show_what_8_bits_do(tmp_path, suffix):
    picture(tmp_path / f"x.{suffix}", RAMP.astype(np.uint16) * 257)
    with Image.open(tmp_path / f"x.{suffix}") as image:
        assert image.mode == "I;16"
    for mode, channels in (("RGB", 3), ("L", 1)):
        shown = images.read_image(tmp_path / f"x.{suffix}", RAMP.shape, mode)
        expected = torch.from_numpy(RAMP / 255).float().expand(channels, -1, -1)
        assert shown.dtype == torch.float32 and torch.allclose(shown, expected, atol=1e-6)
    picture(tmp_path / "deep.png", np.full((4, 4), 1000, np.uint16))
    assert torch.allclose(images.read_image(tmp_path / "deep.png", (2, 2)), torch.tensor(1000 / 65535))
    edge = np.zeros((16, 16), np.uint16)
    edge[:, 8:] = 65535
    picture(tmp_path / "edge.png", edge)
    shown = images.read_image(tmp_path / "edge.png", (7, 7))  # where a bicubic filter overshoots
    assert shown.min() == 0 and shown.max() == 1


def tiff(pixels: np.ndarray, bits: int, photometric: int, order: str = "<") -> bytes:
    """A grey TIFF of one strip, whose pixels are given as they are packed, written byte by byte."""
    height, width = pixels.shape[:2]
    data = pixels.tobytes()
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    entries += [(277, 3, 1), (278, 4, height), (279, 4, len(data))]
    text = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data)) + data
    text += struct.pack(f"{order}H", len(entries))
    for tag, kind, value in entries:
        value = struct.pack(f"{order}I" if kind == 4 else f"{order}HH", *([value] if kind == 4 else [value, 0]))
        text += struct.pack(f"{order}HHI", tag, kind, 1) + value
    return text + struct.pack(f"{order}I", 0)


def test_tiffs_of_other_bits_and_byte_orders_show_what_they_hold(tmp_path):
    path, levels = tmp_path / "x.tif", RAMP.astype(np.uint16) * 257
    expected = torch.from_numpy(RAMP / 255).float().expand(3, -1, -1)
    for order in "<>":
        path.write_bytes(tiff(levels.astype(f"{order}u2"), 16, 1, order))
        assert torch.allclose(images.read_image(path, RAMP.shape), expected, atol=1e-6)
    path.write_bytes(tiff(levels.astype("<u2"), 16, 0))  # 0 is white
    assert torch.allclose(images.read_image(path, RAMP.shape), 1 - expected, atol=1e-6)
    packed = np.tile(np.array([0xFF, 0xF8, 0x00], np.uint8), (4, 3))  # pairs of 12 bits: 4095 and 2048
    path.write_bytes(tiff(packed.reshape(4, 9), 12, 1).replace(*(struct.pack("<HHII", 256, 4, 1, w) for w in (9, 6))))
    shown = images.read_image(path, (4, 6))
    assert torch.allclose(shown, torch.tensor([1, 2048 / 4095]).repeat(3).expand(3, 4, 6), atol=1e-6)


@pytest.mark.parametrize(
    "kind, words",
    [("int32", "integers of 32 bits or with a sign"), ("float32", "floats"), ("signed", "integers of 32")],
)
def test_values_without_a_defined_range_are_refused(tmp_path, kind, words):
    path = tmp_path / "x.tiff"
    if kind == "signed":
        content = tiff(RAMP.astype("<i2"), 16, 1).replace(
            struct.pack("<HHI", 277, 3, 1), struct.pack("<HHI", 339, 3, 1)
        )
        path.write_bytes(
            content.replace(struct.pack("<HHIHH", 339, 3, 1, 1, 0), struct.pack("<HHIHH", 339, 3, 1, 2, 0))
        )
    else:
        picture(path, RAMP.astype(kind))
    with pytest.raises(InputError) as caught:
        images.read_image(path, (4, 4))
    message = f"{path}: holds {words}"
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert str(caught.value).endswith(", and no convention says which is white: save it with 8 or 16 bits")


SUFFIXES = [(suffix, kind) for suffix in ("jpg", "png", "tiff", "webp") for kind in ("RGB", "L")]


@pytest.mark.parametrize("suffix, kind", [*SUFFIXES, ("png", "I;16"), ("tiff", "I;16")])
def test_images_are_turned_upright(tmp_path, suffix, kind):
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :30] = 255  # white in the upper left
    stored = {1: upright, 3: upright[::-1, ::-1], 6: np.rot90(upright), 8: np.rot90(upright, -1), 2: upright[:, ::-1]}
    for orientation, pixels in stored.items():  # 6: to be shown, the picture is turned clockwise
        exif = Image.Exif()
        exif[274] = orientation
        pixels = np.ascontiguousarray(pixels)
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257 if kind == "I;16" else pixels)
        (image.convert("L") if kind == "L" else image).save(tmp_path / f"x.{suffix}", exif=exif)
        shown = images.read_image(tmp_path / f"x.{suffix}", (40, 60))
        assert shown.shape == (3, 40, 60)
        assert torch.allclose(shown, torch.from_numpy(upright / 255).float().permute(2, 0, 1), atol=0.1), orientation


def test_transparency_is_left_out_and_palettes_are_looked_up(tmp_path):
    colours = np.zeros((6, 6, 4), np.uint8)
    colours[...] = (10, 20, 30, 40)
    expected = torch.tensor([10, 20, 30]).div(255).view(3, 1, 1).expand(3, 3, 3)
    picture(tmp_path / "alpha.png", colours)
    assert torch.allclose(images.read_image(tmp_path / "alpha.png", (3, 3)), expected)
    palette = Image.fromarray(np.ones((6, 6), np.uint8)).convert("P")
    palette.putpalette([200, 0, 0, 10, 20, 30])
    palette.save(tmp_path / "palette.png", transparency=1)
    assert torch.allclose(images.read_image(tmp_path / "palette.png", (3, 3)), expected)
    grey = Image.merge("LA", [Image.new("L", (6, 6), level) for level in (50, 60)])
    grey.save(tmp_path / "grey.png")
    assert torch.allclose(images.read_image(tmp_path / "grey.png", (3, 3), "L"), torch.tensor(50 / 255))


def compressed_jpeg(pixels: np.ndarray, **options) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=98, **options)
        return file.getvalue()


def png(pixels: np.ndarray, bits: int, kind: int) -> bytes:
    """A PNG of levels below 2**bits, written chunk by chunk; kind 0 is grey, 2 RGB, 4 grey and alpha, 6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = pixels.shape[:2]
    if bits < 8:
        rows = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:]).tobytes() for row in pixels]
    else:
        rows = [row.astype(f">u{bits // 8}").tobytes() for row in pixels]
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("kind, channels", [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_any_depth_shows_what_it_holds(tmp_path, bits, kind, channels):
    if bits < 8 and kind:
        return  # PNG has these for grey alone
    top = 2**bits - 1
    pixels = (
        np.random.default_rng(bits).integers(0, top + 1, (8, 16, channels)).astype(np.uint16 if bits > 8 else np.uint8)
    )
    (tmp_path / "x.png").write_bytes(png(pixels, bits, kind))
    colours = torch.from_numpy(pixels[..., : 1 if kind in (0, 4) else 3] / top).float().permute(2, 0, 1)
    shown = images.read_image(tmp_path / "x.png", (8, 16))
    assert torch.allclose(shown, colours.expand(3, -1, -1), atol=1 / 255 if bits > 8 else 1e-6)


def test_cmyk_as_photo_programs_write_it_is_not_inverted(tmp_path):
    colours = np.zeros((16, 16, 3), np.uint8)
    colours[...] = (200, 100, 30)
    picture(tmp_path / "x.jpg", colours, "CMYK")
    assert b"Adobe" in (tmp_path / "x.jpg").read_bytes()  # with this mark, a byte of 255 is no ink
    expected = torch.tensor([200, 100, 30]).div(255).view(3, 1, 1).expand(3, 16, 16)
    assert torch.allclose(images.read_image(tmp_path / "x.jpg", (16, 16)), expected, atol=0.02)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_several_pictures_the_first_is_taken_and_the_user_told(tmp_path, suffix):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    first.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[second], lossless=True)
    (tmp_path / f"x.{suffix}").rename(tmp_path / "x.png")
    with pytest.warns(UserWarning, match=r"x\.png: holds several pictures, of which the first is taken"):
        shown = images.read_image(tmp_path / "x.png", (4, 4))
    assert torch.equal(shown, torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 4, 4))


def test_what_a_photograph_brings_along_is_no_cause_for_a_warning(tmp_path):
    """A preview behind it, as phones write it; damaged EXIF entries; transparency of a palette; many pixels."""
    grey = np.full((16, 16, 3), 99, np.uint8)
    files = {
        "exif.jpg": compressed_jpeg(grey, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "small.png": png(grey[:1, :1], 8, 2),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    preview = Image.new("RGB", (8, 8))
    Image.fromarray(grey).save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[preview], quality=98)
    Image.fromarray(grey).quantize(4).save(tmp_path / "palette.png", transparency=bytes([9, 8]))
    with warnings.catch_warnings(action="error"):
        shown = images.from_folder(tmp_path, 4, (5, 5), (0, 0, 0), (1, 1, 1), seed=0)
    assert torch.allclose(shown, torch.tensor(99 / 255), atol=0.01)


def test_a_picture_of_many_pixels_is_read_and_one_of_too_many_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "x.png", np.full((6, 10, 3), 99, np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with warnings.catch_warnings(action="error"):
        assert images.read_image(tmp_path / "x.png", (3, 3)).shape == (3, 3, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(InputError, match=r"x\.png: more than 40 pixels: save a smaller copy"):
        images.read_image(tmp_path / "x.png", (3, 3))


def test_hidden_files_and_linked_folders_are_no_images(tmp_path):
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for path in (photos / "a.png", photos / ".thumbnails/a.png", elsewhere / "b.png"):
        picture(path, np.zeros((4, 4, 3), np.uint8))
    (photos / "._a.png").write_bytes(b"what macOS leaves on other disks")
    (photos / "c.png").symlink_to(elsewhere / "b.png")
    (photos / "gone.png").symlink_to("nowhere.png")
    (photos / "here.png").symlink_to(".")
    (photos / "linked").symlink_to(elsewhere)
    assert [path.name for path in images.image_paths(photos)] == ["a.png", "c.png"]
    (tmp_path / ".cache").mkdir()
    photos.rename(tmp_path / ".cache/photos")
    assert len(images.image_paths(tmp_path / ".cache/photos")) == 2  # the folder itself may be hidden


@pytest.mark.parametrize("left", [0.3, 0.9])
def test_a_photograph_that_is_cut_off_is_named(tmp_path, left):
    whole = compressed_jpeg(np.random.default_rng(0).integers(255, size=(40, 40, 3), dtype=np.uint8))
    (tmp_path / "x.jpg").write_bytes(whole[: int(left * len(whole))])
    with pytest.raises(InputError, match=r"x\.jpg: not an image that can be read \("):
        images.read_image(tmp_path / "x.jpg", (4, 4))


OTHER_KINDS = [
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n",  # which Pillow hands to Ghostscript
    b"SIMPLE  =                    T",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"\0\0\0\x18ftypheic",
]


@pytest.mark.parametrize("content", OTHER_KINDS)
def test_a_picture_of_another_kind_is_given_to_no_reader(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    kinds = "BMP, GIF, JPEG, PNG, TIFF, WEBP"
    with pytest.raises(InputError, match=rf"x\.png: not an image that can be read \(its content is none of {kinds}\)$"):
        images.read_image(tmp_path / "x.png", (4, 4))


def test_a_name_that_pretends_to_be_a_line_is_shown_in_one(nets, capsys):
    (nets / "photos").mkdir()
    (nets / "photos/a\nall is well\x1b[2J.png").write_bytes(b"")
    arguments = ["measure", "nets.py:box", "--images", "photos", "--count", "1", "--input-size", "8", "--out", "x.npz"]
    assert main(arguments) == 1
    line = r"error: photos/a\nall is well\x1b[2J.png: not an image that can be read (it is empty)"
    assert capsys.readouterr().err == line + "\n" and not Path("x.npz").exists()


def test_a_warning_takes_one_line(nets, capsys):
    (nets / "photos").mkdir()
    page = Image.new("RGB", (8, 8))
    page.save("photos/x.tiff", save_all=True, append_images=[page])
    command = [sys.executable, "-m", "erf", "measure", "nets.py:box", "--images", "photos", "--count", "1"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    result = subprocess.run([*command, "--input-size", "8"], capture_output=True, text=True, env=environment)
    assert result.returncode == 0
    assert result.stderr == "warning: photos/x.tiff: holds several pictures, of which the first is taken\n"


def test_images_have_as_many_channels_as_the_mean(tmp_path):
    picture(tmp_path / "x.png", np.full((6, 6, 3), (255, 0, 0), np.uint8))
    settings = model_settings(source=str(tmp_path), images=1, input_size=[3, 3], mean=[0.5], std=[2])
    shown = load_images(settings)
    assert shown.shape == (1, 1, 3, 3) and torch.allclose(shown, torch.tensor((76 / 255 - 0.5) / 2))  # Pillow's grey
    four = {"mean": [0] * 4, "std": [1] * 4}
    assert load_images(settings | four | {"source": "noise"}).shape == (1, 4, 3, 3)
    with pytest.raises(InputError, match=r"images of a folder have 3 channels, or 1, not the 4 of mean and std"):
        load_images(settings | four)
    with pytest.raises(InputError, match=r"a mean for 1 channels and a std for 4: give one of each for every channel"):
        load_images(settings | {"std": [1] * 4})


@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_picture_is_named(tmp_path, content):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        picture(tmp_path / name, rng.integers(255, size=(30, 30, 3), dtype=np.uint8))
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(InputError, match=r"b\.png: not an image that can be read") as caught:
        images.from_folder(tmp_path, 2, (4, 4), (0, 0, 0), (1, 1, 1), seed=0)
    assert "a.png" not in str(caught.value)


def test_a_folder_without_enough_pictures_is_named(tmp_path):
    def message(folder: Path, count: int = 1) -> str:
        with pytest.raises(InputError) as caught:
            images.from_folder(folder, count, (4, 4), (0, 0, 0), (1, 1, 1), seed=0)
        return str(caught.value)

    assert message(tmp_path / "x") == f"{tmp_path / 'x'}: no such folder of images"
    assert message(tmp_path).startswith(f"{tmp_path}: no image in it, which are files named .bmp, .jpeg")
    picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert message(tmp_path / "a.png") == f"{tmp_path / 'a.png'}: a file: give the folder that it is in"
    assert message(tmp_path, 2) == f"{tmp_path}: 2 images are wanted, but there are only 1: ask for fewer (--count)"


# Measuring.


def test_the_field_of_a_known_map(nets):
    field = measured(factory="nets.py:box", layer="", input_size=[9, 11], unit=[2, 3])
    expected = np.zeros((9, 11))
    expected[1:4, 2:5] = 1
    np.testing.assert_allclose(field.map, expected, atol=1e-6)
    assert field.position == (2, 3) and field.theoretical_rf == (3, 3) and field.size == 3
    middle = measured(factory="nets.py:box", layer="", input_size=[9, 11])
    assert middle.position == (4, 5) and middle.settings["model"]["factory"] == "nets.py:box"


def test_settings_reach_the_measurement(nets):
    settings = model_settings(factory="nets.py:trained", channels=1, mode="square", layer="top")
    direct = measure(load_model("nets.py:trained"), images.noise(3, (12, 10), 0), "top", channels=1, mode="square")
    field = measure_model(settings, torch.device("cpu"), torch.float32, trust=["nets.py"])
    np.testing.assert_array_equal(field.map, direct.map)
    assert len(field.bootstrap) and field.settings["mode"] == "square" and field.settings["layer"] == "top"
    again = measure_model(settings, torch.device("cpu"), torch.float32, batch_size=1, trust=["nets.py"])
    np.testing.assert_allclose(again.map, field.map, rtol=1e-5)
    double = measure_model(settings, torch.device("cpu"), torch.float64, trust=["nets.py"])
    np.testing.assert_allclose(double.map, field.map, rtol=1e-5)
    assert (double.map != field.map).any()


def test_models_of_one_seed_see_the_same_noise(nets):
    one, other = (measured(factory="nets.py:square", layer=layer) for layer in ("", "0"))
    np.testing.assert_array_equal(one.map, other.map)
    assert (measured(factory="nets.py:square", layer="", seed=1).map != one.map).any()


def test_images_of_a_folder_are_measured(nets):
    for number in range(3):
        picture(nets / f"photos/{number}.png", np.full((20, 20, 3), 255 * (number == 1), np.uint8))
    field = measured(factory="nets.py:square", layer="", source="photos", mean=[0, 0, 0], std=[0.5, 0.5, 0.5])
    assert field.map.max() == pytest.approx(2 * 2)  # d(x^2)/dx = 2x, at 2 in one image, at 0 in the others
    assert field.dead == 2


def test_new_batch_norms_are_calibrated_and_trained_ones_left_alone(nets):
    plain, tripled = (
        measured(factory="nets.py:build", kwargs={"scale": scale}, layer="", images=8) for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose(tripled.map / tripled.map.max(), plain.map / plain.map.max(), rtol=1e-3, atol=1e-3)
    trained = measured(factory="nets.py:trained", layer="")
    direct = measure(load_model("nets.py:trained"), images.noise(3, (12, 10), 0))
    np.testing.assert_array_equal(trained.map, direct.map)
    model = load_model("nets.py:build")
    torch.save(model.state_dict(), "weights.pt")  # given weights are not new, whatever they are
    given = measured(factory="nets.py:build", weights="weights.pt", layer="")
    np.testing.assert_array_equal(given.map, measure(model, images.noise(3, (12, 10), 0)).map)


def test_calibration_counts_no_dropout_among_what_batch_norms_see(nets):
    dropped, kept = (measured(factory="nets.py:build", kwargs={"dropout": rate}, layer="") for rate in (0.9, 0.0))
    np.testing.assert_array_equal(dropped.map, kept.map)
    assert len(batch_norms(load_model("nets.py:build"))) == 1


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"factory": "nets.py:picky"},
            r"the model fails on images of 1 x 3 x 12 x 10: AssertionError: 16 x 16 only",
        ),
        ({"factory": "nets.py:grey"}, r"the model fails on images of 1 x 3 x 12 x 10: RuntimeError: Given groups=1"),
        ({"factory": "nets.py:build", "layer": "cnov"}, "unknown layer 'cnov': did you mean conv"),
        (
            {"factory": "nets.py:pooled", "images": 1},
            "the model fails on images of 1 x 3 x 12 x 10: ValueError: Exp",
        ),
        ({"factory": "nets.py:box", "unit": [12, 0]}, r"unit \(12, 0\) is outside"),
        ({"factory": "nets.py:box", "channels": 5}, "unknown channels 5"),
        ({"factory": "nets.py:box", "source": "no/where"}, "no/where: no such folder of images"),
    ],
)
def test_what_cannot_be_measured_is_named_in_one_line(nets, changes, message):
    with pytest.raises(InputError, match=f"^{message}") as caught:
        measured(**{"layer": "", **changes})
    assert "\n" not in str(caught.value)


def test_a_head_that_does_not_fit_the_images_is_not_run(nets):
    assert measured(factory="nets.py:headed", layer="0").theoretical_rf == (3, 3)
    with pytest.raises(InputError, match="fails on images of 1 x 3 x 12 x 10"):
        measured(factory="nets.py:headed", layer="")


# The scripts.


def test_the_script_writes_the_field_and_its_numbers(nets):
    settings = model_settings(factory="nets.py:build", layer="conv")
    arguments = ["--settings", settings_file({"name": "mine", **settings}), "--device", "cpu", "--out", "out/mine.npz"]
    assert script.main([*arguments, "--trust", "nets.py"]) == 0
    field, direct = ReceptiveField.load("out/mine.npz"), measured(factory="nets.py:build", layer="conv")
    np.testing.assert_array_equal(field.map, direct.map)
    assert field.settings["name"] == "mine" and field.settings["model"] == settings
    (row,) = pd.read_csv("out/mine.csv").to_dict("records")
    assert (row["model"], row["factory"], row["layer"]) == ("mine", "nets.py:build", "conv")
    assert row["size"] == field.size and (row["low"], row["high"]) == pytest.approx(field.interval)
    assert (row["rf_height"], row["rf_width"]) == (3, 3)
    assert (row["row"], row["column"], row["images"], row["dead"]) == (6, 5, 3, 0)
    record = json.loads(Path("out/mine.provenance.json").read_text())
    assert record["read"].keys() == {arguments[1], "nets.py"} and record["written"].keys() == {"mine.npz", "mine.csv"}


def test_files_of_the_users_own_keep_their_names_whatever_a_record_beside_them_says(nets, capsys):
    for number in range(3):
        picture(nets / f"photos/{number}.png", np.full((20, 20, 3), 80 * number, np.uint8))
    torch.save(load_model("nets.py:build").state_dict(), "nets.pt")
    settings = model_settings(factory="nets.py:build", weights="nets.pt", source="photos", layer="top")
    arguments = ["--settings", settings_file({"name": "x", **settings}), "--device", "cpu", "--trust", "nets.py"]
    assert script.main([*arguments, "--out", "out/x.npz"]) == 0
    record = json.loads(Path("out/x.provenance.json").read_text())
    photos = {f"photos/{number}.png" for number in range(3)}
    assert record["read"].keys() == {arguments[1], "nets.py", "nets.pt", "photos", *photos}
    for folder, names in ((nets, ["nets.py", "nets.pt"]), (nets / "photos", ["0.png", "1.png", "2.png"])):
        hostile = json.dumps(record | {"written": dict.fromkeys(names, "0" * 64)})
        (folder / "provenance.json").write_text(hostile)
    before = {path: path.read_bytes() for path in nets.rglob("*.p*") if "out" not in path.parts}
    assert script.main([*arguments, "--out", "out/x.npz"]) == 0
    words = ["nets.py:build", "--weights", "nets.pt", "--images", "photos", "--count", "3", "--input-size", "9"]
    assert main(["measure", *words, "--out", "out/y.npz"]) == 0, capsys.readouterr().err
    assert {path: path.read_bytes() for path in nets.rglob("*.p*") if "out" not in path.parts} == before


def test_the_script_says_a_users_mistake_in_one_line(nets, capsys):
    settings = settings_file({"name": "mine", **model_settings(factory="nets.py:broken")})
    arguments = ["--settings", settings, "--device", "cpu", "--trust", "nets.py"]
    assert script.main([*arguments, "--out", "mine.npz"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: nets.py:broken fails: ValueError") and error.count("\n") == 1
    assert not list(nets.glob("*mine*"))


def field_of(name: str, size: int, theoretical_rf: tuple[float, float], side: int = 40) -> ReceptiveField:
    """A square of impact in an image."""
    maps = np.zeros((2, side, side))
    maps[:, 20 - size // 2 : 20 - size // 2 + size, 20 - size // 2 : 20 - size // 2 + size] = 1
    settings = {"name": name, "model": model_settings(layer="top")}
    return ReceptiveField.from_runs(maps, (20, 20), theoretical_rf, settings, np.random.default_rng(0))


FIELDS = [
    field_of("small", 5, (11, 11)),
    field_of("cut", 11, (11, 11)),
    field_of("wide", 9, (90, 90)),
    field_of("global", 7, (np.inf, np.inf)),
]


def test_the_figures_table_holds_what_the_fields_hold():
    table = figure_models.tabulate(FIELDS).set_index("model")
    assert table["size"].to_dict() == {"small": 5, "cut": 11, "wide": 9, "global": 7}
    assert table["clipped"].to_dict() == {"small": False, "cut": True, "wide": False, "global": False}
    assert table.loc["wide", "rf_height"] == 90 and np.isinf(table.loc["global", "rf_width"])
    assert table.loc["small", "ratio"] == pytest.approx(5 / 11) and np.isnan(table.loc["global", "ratio"])


def test_the_figure_frames_fields_that_fit_and_marks_what_is_cut_off_or_infinite():
    figure, table = figure_models.draw(FIELDS)
    panels = {panel.get_title(): panel for panel in figure.axes if panel.get_title()}
    assert list(panels) == ["small", "cut", "wide", "global"]
    assert {name: len(panel.patches) for name, panel in panels.items()} == {
        "small": 1,
        "cut": 1,
        "wide": 0,
        "global": 0,
    }
    frame = panels["small"].patches[0]
    assert (frame.get_x(), frame.get_y(), frame.get_width()) == (-5.5, -5.5, 11)
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in panels.values()}) == 1  # one scale
    (chart,) = (axes for axes in figure.axes if axes.get_xlabel() == "pixels")
    hollow = [line for line in chart.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xydata().tolist() for line in hollow] == [[[11, 1]]]
    assert [text.xy[1] for text in chart.texts if text.get_text() == "∞"] == [3]
    (marks,) = (line for line in chart.lines if line.get_marker() == "|" and line.get_color() == "0.2")
    assert marks.get_xydata().tolist() == [[11, 0], [11, 1], [90, 2]]
    assert [label.get_text() for label in chart.get_yticklabels()] == list(table["model"])
    plt.close(figure)


def test_the_figure_of_one_model_that_sees_everything():
    figure, table = figure_models.draw(FIELDS[3:])
    figure.canvas.draw()
    assert len(table) == 1
    plt.close(figure)


def test_one_generator_draws_images_and_another_noise():
    noise, drawn = (torch.rand(1, generator=torch_generator(0, name)) for name in ("noise images", "drawn images"))
    assert noise != drawn
