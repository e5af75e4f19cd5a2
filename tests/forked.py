"""A function called in a copy of this process: fresh, but for what is imported and built."""

import multiprocessing
import resource
import signal
from collections.abc import Callable


class OutOfTimeError(Exception):
    """The function took more time than it was given."""


def forked(function: Callable, *args, limit: int | None = None):
    """The function's result, or its exception, from a copy of this process, which must have computed no gradient.

    limit : seconds of CPU time; four times as many by the clock, for a machine that is busy
    """

    def work():
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        try:
            sender.send((function(*args), None))
        except Exception as error:
            sender.send((None, error))

    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work)
    process.start()
    sender.close()
    try:
        if limit is not None and not receiver.poll(4 * limit):
            raise OutOfTimeError
        result, error = receiver.recv()
    except EOFError:  # it has died
        process.join()
        if process.exitcode == -signal.SIGXCPU:
            raise OutOfTimeError from None
        raise RuntimeError(f"the process died: exit status {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if error is not None:
        raise error
    return result
