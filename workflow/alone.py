"""Run a command while no other process holds the lock of a file: a second one waits, and says so.

    python workflow/alone.py FILE COMMAND…

It uses the standard library alone, since nothing else may be there yet.
"""

import os
import sys
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def run(path: str, command: list[str]) -> None:
    """Become the command, which holds the lock to its end; one that is killed holds none."""
    with Path(path).open("r+b") as file:  # for writing, as NFS asks of what is locked
        os.set_inheritable(file.fileno(), True)
        if fcntl:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("another process is installing what this one needs: waiting for it", file=sys.stderr, flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:  # a file system without locks
                pass
        os.execvp(command[0], command)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
