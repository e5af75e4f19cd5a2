"""Run README's example of one's own model, and keep what it prints and draws.

python figures/reference/own_model.py             own_model.txt and own_model.png, in seconds
"""

import contextlib
import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from erf.models.torchvision_import import import_torchvision  # noqa: E402


def example() -> str:
    """The first block of Python in README."""
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL).group(1)


def run(folder: Path) -> str:
    """What the example prints; its picture is then in the folder."""
    import_torchvision()  # a build of torch without CUDA needs help to import it
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(example(), {})
    return printed.getvalue()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        (HERE / "own_model.txt").write_text(run(Path(folder)), encoding="utf-8")
        shutil.copy(Path(folder) / "erf.png", HERE / "own_model.png")
