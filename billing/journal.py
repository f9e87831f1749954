"""How far this process's calls have got, in a file that outlives the process.

A lease's renewal tells the database every ten seconds; what happened since would be forgotten with a process that is
killed. So each step, and once a second what a stream has produced, is also noted in a file that is mapped into memory:
a note costs two microseconds, and the kernel keeps it when the process dies. The sweep on the same machine reads it
(`last_words`). What it proves:

- a hold that its owner's journal does not know was never sent to an upstream;
- a hold that it knows had got at least as far as it says.

A machine that loses its power may lose the file's last seconds: after another boot it proves only the second.
"""

import fcntl
import mmap
import os
import socket
import struct
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import structlog
from django.conf import settings

from billing.operations import Progress

log = structlog.get_logger(__name__)

SLOTS = 8192  # calls in flight in one process; those beyond are not noted, and the file says so
_COPY = 512  # bytes; a slot has two copies, written in turn, so that a kill in mid-write leaves one
_SLOT = 2 * _COPY
_HEADER = 64
_MAGIC = b"pisces-journal-1"
_CROWDED_AT = 48
_FRAME = struct.Struct("<IIH")  # checksum, sequence number, length
_encoder = msgspec.json.Encoder()


class _Note(msgspec.Struct, array_like=True):
    """A slot's content."""

    hold: uuid.UUID
    generation: int
    progress: Progress


_decoder = msgspec.json.Decoder(_Note)


class Slot:
    """One hold's place in the file."""

    __slots__ = ("_at", "number", "sequence")

    def __init__(self, number: int, sequence: int) -> None:
        self.number = number
        self.sequence = sequence
        self._at = _HEADER + number * _SLOT

    def write(self, file: mmap.mmap, content: bytes) -> None:
        """The older of the two copies is written, under the next number."""
        assert len(content) <= _COPY - _FRAME.size  # ten buckets of thirteen digits fit
        self.sequence += 1
        at = self._at + (self.sequence & 1) * _COPY
        framed = _FRAME.pack(zlib.crc32(content), self.sequence, len(content)) + content
        file[at : at + len(framed)] = framed


class Journal:
    """The journal of one process. `owner` names it in the leases."""

    def __init__(self) -> None:
        self._process = 0
        self._file: mmap.mmap | None = None
        self._free: list[tuple[int, int]] = []  # slot numbers and the last sequence number that each has seen
        self._slots: dict[int, Slot] = {}  # by the hold's number, which is hashed sooner than a UUID
        self.owner = ""

    def open(self) -> str:
        """Begins the file of this process, once; its owner's name. A folder that cannot be written is survived."""
        if self._process == os.getpid():
            return self.owner
        self._process, self._slots, self._file = os.getpid(), {}, None
        token = uuid.uuid4().hex[:16]
        self.owner = f"{socket.gethostname()[:32]}:{self._process}:{token}"
        try:
            self._file = _create(_path(token))
        except OSError as error:
            log.warning("journal.unwritable", error=type(error).__name__)
        self._free = [(number, 0) for number in range(SLOTS - 1, -1, -1)]
        return self.owner

    def note(self, hold: uuid.UUID, generation: int, progress: Progress) -> None:
        """From now on a reader finds at least this much."""
        if self._file is None:
            return
        slot = self._slots.get(hold.int) or self._take(hold)
        if slot is not None:
            slot.write(self._file, _encoder.encode(_Note(hold, generation, progress)))

    def forget(self, hold: uuid.UUID) -> None:
        """The hold is closed, durably. Its note stays until another takes the place: of a closed hold nobody asks."""
        slot = self._slots.pop(hold.int, None)
        if slot is not None:
            self._free.append((slot.number, slot.sequence))

    def _take(self, hold: uuid.UUID) -> Slot | None:
        assert self._file is not None
        if not self._free:
            self._file[_CROWDED_AT : _CROWDED_AT + 1] = b"\x01"
            return None
        slot = self._slots[hold.int] = Slot(*self._free.pop())
        return slot


class LastWords(msgspec.Struct):
    """What a journal says of its `calls`, some of which have been closed since. `complete`: an open hold that is not
    among them was never sent."""

    calls: dict[uuid.UUID, Progress]
    complete: bool


def last_words(owner: str) -> LastWords | None:
    """The journal of that owner, if its file is on this machine."""
    try:
        content = _path(owner.rpartition(":")[2]).read_bytes()
    except OSError:
        return None
    if len(content) != _HEADER + SLOTS * _SLOT or content[: len(_MAGIC)] != _MAGIC:
        return None
    boot = _boot()
    same_boot = boot != b"" and content[16:_CROWDED_AT].rstrip(b"\0") == boot
    crowded = content[_CROWDED_AT] != 0
    calls = {note.hold: note.progress for note in _notes(content)}
    return LastWords(calls, complete=same_boot and not crowded)


def _notes(content: bytes) -> Iterator[_Note]:
    for start in range(_HEADER, len(content), _SLOT):
        copies = [found for at in (start, start + _COPY) if (found := _copy(content, at)) is not None]
        if copies and (newest := max(copies)[1]):  # an earlier version emptied the places of closed holds
            yield _decoder.decode(newest)


def _copy(content: bytes, at: int) -> tuple[int, bytes] | None:
    """A copy's sequence number and content; None for one that was never written, or not to its end."""
    checksum, sequence, length = _FRAME.unpack_from(content, at)
    found = content[at + _FRAME.size : at + _FRAME.size + length]
    if sequence == 0 or length > _COPY - _FRAME.size or zlib.crc32(found) != checksum:
        return None
    return sequence, found


def remove_finished(needed: set[str]) -> None:
    """Deletes the files of processes that have ended, unless an open hold still names them (`needed`: owners)."""
    kept = {owner.rpartition(":")[2] for owner in needed}
    for path in _folder().glob("*.journal"):
        if path.stem not in kept and _is_abandoned(path):
            path.unlink(missing_ok=True)


def _is_abandoned(path: Path) -> bool:
    """Its process holds a lock on it for as long as it lives."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _create(path: Path) -> mmap.mmap:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # never closed: the lock says that the process lives
    size = _HEADER + SLOTS * _SLOT
    os.posix_fallocate(descriptor, 0, size)  # a disk that fills up later must not kill the process with a signal
    file = mmap.mmap(descriptor, size)
    file[: len(_MAGIC)] = _MAGIC
    file[16 : 16 + len(_boot())] = _boot()
    return file


def _boot() -> bytes:
    """Names this run of the machine, in at most 32 bytes; empty where nobody can tell one from the next."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip().replace(b"-", b"")[:32]
    except OSError:
        return b""


def _folder() -> Path:
    return Path(settings.VAR_DIR) / "journals"


def _path(token: str) -> Path:
    return _folder() / f"{token}.journal"


journal = Journal()
