"""A file fetched over HTTP that goes on from where it was: after a fault, and after the program was killed.

What has come is in a `.part` file, with the server's validator beside it: its strong ETag or its Last-Modified, by
which the server tells whether it still has the same file (RFC 9110, section 13.1.5). Where there is none, or where the
server does not give ranges, the file is fetched from its beginning.
"""

import http.client
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from erf.errors import InputError

ATTEMPTS = 5  # in a row that together bring less than GAIN
GAIN = 2 * 2**20  # bytes
TIMEOUT = 60  # seconds without a byte
WINDOW, FLOOR = 60, 5000  # seconds, and the bytes per second that must come in them; a slow host gives 70,000
SIZE_LIMIT = 2**30  # bytes; six times CIFAR-10's archive
TOO_LARGE = "has more than {:,} bytes, too many for a dataset"
CHUNK = 2**16

VALIDATOR = re.compile(r'"[!#-~]*"|[A-Z][a-z]{2}, [ -~]{1,40}')  # a strong ETag (a weak one begins with W/), or a date
CONTENT_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-[0-9]{1,18}|\*)/([0-9]{1,18})")


class _TransientError(Exception):
    """What may be over at the next attempt."""


def download(url: str, part: Path) -> bool:
    """Fetch `url` to `part`, from where it was left. InputError where that is in vain; then `part` stays only if it is
    of use the next time.

    True if it was put together from several answers, so that damage may come from an earlier one.
    """
    try:
        return _attempts(url, part)
    except (InputError, OSError) as error:
        if not _validator(part):
            discard(part)
        if isinstance(error, OSError):
            error.filename = error.filename or str(part)  # a full disk names no file
        raise


def discard(part: Path) -> None:
    """Remove a part and its validator."""
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


def _attempts(url: str, part: Path) -> bool:
    failures, reached = 0, _size(part)
    while True:
        try:
            return _fetch_rest(url, part)
        except InputError:
            raise
        except requests.ConnectionError:
            reason = f"no connection to {urlsplit(url).hostname}"
        except (requests.Timeout, urllib3.exceptions.ReadTimeoutError):
            reason = f"nothing came for {TIMEOUT} seconds"
        except _TransientError as error:
            reason = str(error)
        except (requests.RequestException, ValueError) as error:  # no address, or a redirect that leads nowhere
            raise InputError(f"leads to no file ({error})") from error
        except urllib3.exceptions.HTTPError:
            reason = f"cut off after {_size(part):,} bytes"
        failures += 1
        if _size(part) >= reached + GAIN:
            failures, reached = 1, _size(part)
        print(f"{url}: attempt {failures} of {ATTEMPTS} failed: {reason}", file=sys.stderr)
        if failures == ATTEMPTS:
            raise InputError(reason + ("; run again to go on from there" if _size(part) and _validator(part) else ""))
        time.sleep(2**failures)


def _fetch_rest(url: str, part: Path) -> bool:
    """One request for what `part` lacks; what `download` returns."""
    validator = _validator(part)
    start = _size(part) if validator else 0
    headers = {"Accept-Encoding": "identity"}  # an archive is compressed already
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    hooks = {"response": _leave_body_of_redirect}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT, hooks=hooks) as response:
        if start and response.status_code == 416 and _content_range(response) == (None, start):
            return True  # killed after the last byte had come
        start, total = _extent(response, part, start, validator)
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(total=total, initial=start, unit="B", unit_scale=True, mininterval=1) as bar,
        ):
            if not start:  # only now that no bytes of another file are left
                _beside(part).write_text(_validator_of(response) or "", encoding="utf-8")
            size = marked = start
            since = time.monotonic()
            while data := response.raw.read1(CHUNK, decode_content=False):  # does not wait until there is all of CHUNK
                size += len(data)
                if size > SIZE_LIMIT:
                    discard(part)
                    raise InputError(TOO_LARGE.format(SIZE_LIMIT))
                file.write(data)
                bar.update(len(data))
                if (seconds := time.monotonic() - since) > WINDOW:
                    if size - marked < FLOOR * seconds:
                        raise _TransientError(f"only {size - marked:,} bytes came in {seconds:.0f} seconds")
                    marked, since = size, time.monotonic()
        if total is not None and size > total:
            discard(part)
        if size != total and (total is not None or not size):  # nothing at all: cut off in the headers
            raise _TransientError(f"incomplete: {size:,} of {total or 'unknown'} bytes")
        return start > 0


def _extent(response: requests.Response, part: Path, start: int, validator: str | None) -> tuple[int, int | None]:
    """Where in the file the answer's body begins, and the size of the file where that is said."""
    status, length = response.status_code, response.raw.length_remaining
    if start and status in (206, 416):
        first, total = _content_range(response)
        if first != start or _validator_of(response) not in (None, validator):
            discard(part)
            raise _TransientError(f"answered {status} with a range of another file; from the beginning")
    elif status != 200:
        kind = _TransientError if status >= 500 or status in (408, 429) else InputError
        raise kind(f"answered {status} {http.client.responses.get(status, '')}".rstrip())
    elif "html" in response.headers.get("Content-Type", "").lower():
        raise InputError("an HTML page")  # a sign-in page must not replace a part
    else:
        start, total = 0, length
    if max(total or 0, start + (length or 0)) > SIZE_LIMIT:
        raise InputError(TOO_LARGE.format(SIZE_LIMIT))
    return start, total


def _leave_body_of_redirect(response: requests.Response, **_) -> None:
    """requests would read it, however long it is, into memory."""
    if response.is_redirect:
        response.close()


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and size of the whole file, of "bytes 10-99/100" or "bytes */100"; None for what is not said."""
    match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return tuple(None if number is None else int(number) for number in match.groups()) if match else (None, None)


def _validator_of(response: requests.Response) -> str | None:
    found = (response.headers.get(name, "") for name in ("ETag", "Last-Modified"))
    return next(filter(VALIDATOR.fullmatch, found), None)


def _validator(part: Path) -> str | None:
    """The one that was noted; None also where it was written in part only, and where there is no part."""
    path = _beside(part)
    text = path.read_text(encoding="utf-8", errors="replace") if part.exists() and path.exists() else ""
    return text if VALIDATOR.fullmatch(text) else None


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.validator")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
