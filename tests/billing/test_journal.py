"""The journal outlives its process, says nothing that did not happen, and admits what it does not know."""

import os
import random
import socket
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import override_settings

from billing import journal as journals
from billing.journal import Journal, last_words
from billing.operations import Progress
from billing.usage import BUCKETS


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with override_settings(VAR_DIR=tmp_path):
        yield tmp_path / "journals"


def test_the_newest_note_of_each_open_hold_is_found(folder: Path) -> None:
    book, calls, closed = Journal(), [uuid.uuid4() for _ in range(2)], uuid.uuid4()
    owner = book.open()
    assert book.open() == owner
    book.note(closed, 1, Progress(1, 30))
    book.forget(closed)
    for call in calls:
        book.note(call, 1, Progress(1, 30))
    book.note(calls[0], 1, Progress(2, 30, 99, answering=True))
    book.note(calls[1], 1, Progress(1, 30, usage={"input": 7, "output": 5}))
    words = last_words(owner)
    assert words is not None
    assert words.complete
    assert words.calls == {
        calls[0]: Progress(2, 30, 99, answering=True),
        calls[1]: Progress(1, 30, usage={"input": 7, "output": 5}),
    }


def test_the_largest_note_fits(folder: Path) -> None:
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    largest = Progress(9, 2**40, 2**40, answering=True, usage=dict.fromkeys(BUCKETS, 2**40))
    book.note(call, 2**31 - 1, largest)
    words = last_words(owner)
    assert words is not None
    assert words.calls[call] == largest


@pytest.mark.parametrize("seed", range(20))
def test_a_note_that_was_cut_in_its_middle_leaves_the_one_before(
    folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SLOTS", 4)
    source = random.Random(seed)
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    path = next(folder.iterdir())
    for number in range(1, source.randrange(2, 6)):
        book.note(call, 1, Progress(1, number))
    before = path.read_bytes()
    book.note(call, 1, Progress(1, 10**9))
    after = path.read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    cut = changed[source.randrange(len(changed))]
    path.write_bytes(after[:cut] + before[cut:])
    words = last_words(owner)
    assert words is not None
    assert words.calls[call].input_bytes in {number, 10**9}


def test_places_are_used_again_and_a_crowd_is_admitted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SLOTS", 4)
    book = Journal()
    owner = book.open()
    for _ in range(20):
        call = uuid.uuid4()
        book.note(call, 1, Progress(1))
        book.forget(call)
    words = last_words(owner)
    assert words is not None
    assert (list(words.calls), words.complete) == ([call], True), "one place was enough, and tells of the last"
    crowd = [uuid.uuid4() for _ in range(5)]
    for call in crowd:
        book.note(call, 1, Progress(1))
    words = last_words(owner)
    assert words is not None
    assert (set(words.calls), words.complete) == (set(crowd[:4]), False)


def test_a_place_that_was_torn_when_it_was_used_again_says_nothing_of_who_has_it_now(folder: Path) -> None:
    """What is left there is the note of the hold before, which is closed: the new one was not sent yet."""
    book, before, now = Journal(), uuid.uuid4(), uuid.uuid4()
    owner = book.open()
    path = next(folder.iterdir())
    book.note(before, 1, Progress(1))
    book.forget(before)
    closed = path.read_bytes()
    book.note(now, 1, Progress(1))
    noted = path.read_bytes()
    changed = [at for at in range(len(closed)) if closed[at] != noted[at]]
    for cut in changed[1:]:
        path.write_bytes(noted[:cut] + closed[cut:])
        words = last_words(owner)
        assert words is not None
        assert (list(words.calls), words.complete) == ([before], True)


def test_a_place_that_an_earlier_version_emptied_is_read(folder: Path) -> None:
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    book.note(call, 1, Progress(1))
    assert book._file is not None
    book._slots[call.int].write(book._file, b"")
    assert last_words(owner) == journals.LastWords({}, complete=True)


def test_after_another_boot_what_it_does_not_say_is_no_proof(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    book.note(call, 1, Progress(1))
    monkeypatch.setattr(journals, "_boot", lambda: b"another")
    words = last_words(owner)
    assert words is not None
    assert (call in words.calls, words.complete) == (True, False)


def test_a_journal_that_is_not_here_or_is_something_else_says_nothing(folder: Path) -> None:
    assert last_words("elsewhere:1:0123456789abcdef") is None
    owner = Journal().open()
    path = next(folder.iterdir())
    content = path.read_bytes()
    for other in (b"something else", content[:-1], content + b"\0", b"another-format-1" + content[16:]):
        path.write_bytes(other)
        assert last_words(owner) is None
    path.write_bytes(content)
    assert last_words(owner) == journals.LastWords({}, complete=True)


def test_a_folder_that_cannot_be_written_costs_the_notes_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "journals").write_text("a file where the folder should be")
    with override_settings(VAR_DIR=tmp_path):
        book = Journal()
        owner = book.open()
        book.note(uuid.uuid4(), 1, Progress(1))
        book.forget(uuid.uuid4())
        assert last_words(owner) is None


def test_files_are_deleted_once_their_process_has_ended_and_no_hold_names_it(folder: Path) -> None:
    living = Journal()
    owner = living.open()
    dead = folder / "0123456789abcdef.journal"
    needed = folder / "fedcba9876543210.journal"
    for path in (dead, needed):
        path.write_bytes(b"")
    journals.remove_finished({"host:1:fedcba9876543210"})
    assert {path.stem for path in folder.iterdir()} == {owner.rpartition(":")[2], needed.stem}


def test_a_journal_is_its_owners_own_and_says_so_in_its_name(folder: Path) -> None:
    book = Journal()
    owner = book.open()
    host, process, token = owner.split(":")
    (path,) = folder.iterdir()
    assert (host, process, path.name) == (socket.gethostname()[:32], str(os.getpid()), f"{token}.journal")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(token) == 16
    assert Journal().open() != owner  # in the folder that is there by now
    assert len(list(folder.iterdir())) == 2


def test_an_owners_name_fits_its_column_whatever_the_machine_is_called(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 80)
    owner = Journal().open()
    assert owner.startswith("h" * 32 + ":")
    assert len(owner) <= 64


def test_the_folder_of_journals_is_made_with_those_above_it(tmp_path: Path) -> None:
    with override_settings(VAR_DIR=tmp_path / "not" / "there"):
        assert last_words(Journal().open()) is not None


def test_a_note_fills_its_place_to_the_last_byte_and_no_further(folder: Path) -> None:
    book = Journal()
    owner = book.open()
    file = book._file
    assert file is not None
    slot, room = journals.Slot(2, 0), 502
    before = bytes(file)
    with pytest.raises(AssertionError):
        slot.write(file, b"x" * (room + 1))
    assert bytes(file) == before
    call = uuid.uuid4()
    note = journals._encoder.encode([call, 1, Progress(1)])
    slot.write(file, note.ljust(room))
    words = last_words(owner)
    assert words is not None
    assert words.calls == {call: Progress(1)}


def test_a_copy_that_claims_to_be_longer_than_its_place_is_none(folder: Path) -> None:
    book = Journal()
    owner = book.open()
    file = book._file
    assert file is not None
    note = journals._encoder.encode([uuid.uuid4(), 1, Progress(1)]).ljust(503)
    at = journals._HEADER
    file[at : at + 513] = journals._FRAME.pack(zlib.crc32(note), 1, len(note)) + note
    words = last_words(owner)
    assert words is not None
    assert words.calls == {}


def test_where_nobody_knows_which_boot_it_is_nothing_is_proved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_boot", lambda: b"")
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    book.note(call, 1, Progress(1))
    words = last_words(owner)
    assert words is not None
    assert (list(words.calls), words.complete) == ([call], False)


def test_a_boot_with_a_short_name_is_known_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_boot", lambda: b"BOX")
    words = last_words(Journal().open())
    assert words is not None
    assert words.complete


def test_a_boot_with_a_long_name_leaves_the_rest_of_the_file_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as named:
        named.setattr(Path, "read_bytes", lambda self: b"b" * 60 + b"\n")
        boot = journals._boot()
    assert boot == b"b" * 32
    monkeypatch.setattr(journals, "_boot", lambda: boot)
    words = last_words(Journal().open())
    assert words is not None
    assert words.complete


def test_the_first_process_of_a_container_has_a_journal_like_any_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    book, call = Journal(), uuid.uuid4()
    owner = book.open()
    assert owner.split(":")[1] == "1"
    book.note(call, 1, Progress(1))
    words = last_words(owner)
    assert words is not None
    assert words.calls == {call: Progress(1)}


def test_a_boot_has_a_name_where_the_kernel_gives_it_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = Path("/proc/sys/kernel/random/boot_id")
    if named.exists():
        assert journals._boot().decode() == named.read_text().strip().replace("-", "")
        assert len(journals._boot()) == 32

    def unreadable(self: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", unreadable)
    assert journals._boot() == b""


def test_two_sweeps_at_once_may_delete_the_same_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "0123456789abcdef.journal").write_bytes(b"")

    def taken(path: Path) -> bool:
        path.unlink()
        return True

    monkeypatch.setattr(journals, "_is_abandoned", taken)
    journals.remove_finished(set())
    assert list(folder.iterdir()) == []


def test_a_journal_that_was_never_opened_notes_nothing() -> None:
    book = Journal()
    book.note(uuid.uuid4(), 1, Progress(1))
    book.forget(uuid.uuid4())
    assert book.owner == ""
