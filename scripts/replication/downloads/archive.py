"""The members of a dataset's archive or folder, read in memory within limits; nothing is extracted to disk.

An archive comes from a server, so that neither its headers nor its sizes are believed: a few kilobytes may unpack to
gigabytes, in a member, in a header, or in the number of members.
"""

import errno
import functools
import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from erf.errors import InputError

MEMBER_LIMIT = 64 * 2**20  # bytes; the largest official member has half of that
TOTAL_LIMIT = 512 * 2**20  # bytes, unpacked; CamVid has 485 million where its images are not compressed
HEADER_LIMIT = 4 * 2**20  # bytes from a .tar's member to the next one, or of a .zip's directory
MEMBERS = 10_000  # in an archive; CamVid's official one has about 1,500

# What a damaged archive brings its readers to, or a zip that is encrypted.
DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, RuntimeError, ValueError, OverflowError, IndexError),
)

Members = dict[str, bytes]  # content by path within the dataset's folder
Member = tuple[str, int, Callable[[], bytes] | None]  # name, size in bytes, and how to read it, if it is a file


def read_members(path: Path, dataset: dict, name: str | None = None) -> Members:
    """The members from a folder, or from an archive of that file name, by default its own."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.stat().st_size <= MEMBER_LIMIT)
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    if path.is_file():
        folder = PurePosixPath(dataset.get("archive_folder", dataset["folder"]))
        return members_of_archive(path, PurePosixPath(name or path.name), folder)
    raise InputError("not there")


def members_of_archive(archive: Path, name: PurePosixPath, folder: PurePosixPath) -> Members:
    """The files under `folder` of a .tar.gz or .zip, which is what its `name` says. An archive with a member that would
    leave the top folder is refused, a link is passed over."""
    try:
        return _within_limits((_of_zip if name.suffix == ".zip" else _of_tar)(archive), folder)
    except InputError:
        raise
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the disk's fault, not the archive's
        with archive.open("rb") as file:
            start = file.read(60)
        kind = "an HTML page" if b"<html" in start.lower() or b"<!doctype" in start.lower() else "damaged or incomplete"
        raise InputError(f"not a {''.join(name.suffixes[-2:])} but {kind} ({str(error)[:80]})") from error


def _within_limits(found: Iterator[Member], folder: PurePosixPath) -> Members:
    members, total = {}, 0
    for count, (name, size, read) in enumerate(found, 1):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or path.parts[:1] != folder.parts[:1]:
            raise InputError(f"member {name[:80]!r} lies outside of {folder.parts[0]}/; archive refused")
        if count > MEMBERS:
            raise InputError(f"more than {MEMBERS:,} members; archive refused")
        if read is not None and path.is_relative_to(folder):
            total += size
            if size > MEMBER_LIMIT or total > TOTAL_LIMIT:
                raise InputError(f"member {name[:80]!r} is too large; archive refused")
            members[path.relative_to(folder).as_posix()] = read()
    return members


class _Limited(io.BufferedReader):
    """A file that refuses to give more than `limit` bytes in all."""

    limit, given = HEADER_LIMIT, 0

    def read(self, size: int | None = -1) -> bytes:
        left = self.limit - self.given
        data = super().read(left + 1 if size is None or size < 0 else min(size, left + 1))
        self.given += len(data)
        if self.given > self.limit:
            raise InputError("its headers or its content are too large; archive refused")
        return data


def _of_tar(archive: Path) -> Iterator[Member]:
    # As a stream, whose every byte passes the limit: tarfile reads headers whole, whatever size they say they have.
    with (
        gzip.open(archive) as unpacked,
        _Limited(unpacked) as stream,
        tarfile.open(fileobj=stream, mode="r|") as tar,
    ):
        while member := tar.next():
            stream.limit = min(tar.offset + HEADER_LIMIT, TOTAL_LIMIT)  # `offset` is where the next header begins
            read = functools.partial(_read_tar, tar, member) if member.isfile() else None
            yield member.name, member.size, read


def _read_tar(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return tar.extractfile(member).read()


def _of_zip(archive: Path) -> Iterator[Member]:
    with archive.open("rb", buffering=0) as raw, _Limited(raw) as stream, zipfile.ZipFile(stream) as file:
        stream.limit = 2 * TOTAL_LIMIT  # the directory has been read; now come headers and compressed content
        for member in file.infolist():
            read = None if member.is_dir() else functools.partial(_read_zip, file, member)
            yield member.filename, member.file_size, read


def _read_zip(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
        raise InputError(f"member {member.filename[:80]!r} is compressed in another way than deflate; archive refused")
    with file.open(member) as data:
        return data.read(member.file_size)  # a plain read() would unpack more than it gives


def chosen(members: Members, names: list[str]) -> Members:
    """The named members; InputError if some are missing."""
    missing = [name for name in names if name not in members]
    if missing:
        raise InputError(f"{', '.join(missing[:8])}{', …' if len(missing) > 8 else ''} not in it")
    return {name: members[name] for name in names}
