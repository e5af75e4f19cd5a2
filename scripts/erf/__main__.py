"""The effective receptive field (ERF) of any PyTorch model, from the command line."""

import argparse
import sys

from erf.commands import compare, layers, measure
from erf.system.exits import exit_status

__all__ = ["main"]

_EXAMPLES = """examples:
  erf measure torchvision.models:resnet50 --layer layer4
  erf measure torchvision.models:resnet50 --layer layer4 --weights default --images photographs/ --count 50
  erf measure net.py:build --kwargs '{"width": 64}' --weights best.pt --layer encoder --out erf.npz --figure erf.png
  erf measure mypackage.nets:build --trust mypackage --layer encoder
  erf measure timm:vit_base_patch16_224 --layer blocks.11 --input-size 224 --json
  erf layers torchvision.models:resnet50 --fields
  erf compare before.npz after.npz --labels before after --figure both.png

exit status: 0 if all went well, 1 for what a line on stderr names, 2 for wrong arguments, 130 after Ctrl-C"""


def main(argv: list[str] | None = None) -> int:
    """The command `erf`; its exit status."""
    options = {"formatter_class": argparse.RawDescriptionHelpFormatter, "epilog": _EXAMPLES}
    parser = argparse.ArgumentParser("erf", description=__doc__, **options)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (measure, layers, compare):
        command.add_to(commands, **options)
    args = parser.parse_args(argv)
    return exit_status(lambda: args.run(args))


if __name__ == "__main__":
    sys.exit(main())
