"""What is this user's alone: told from what others can change, replace, or have put there."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from holdall.errors import printable
from holdall.private import OTHERS, fault, open_own, planted

STRANGER = 54_321
"""Another user's id."""


def given_away(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file to another user")
    os.chown(path, STRANGER, STRANGER, follow_symlinks=False)


def of_strangers(path: Path, mode: int) -> None:
    """A mode, and the group of somebody else, if there can be one."""
    path.chmod(mode)
    if os.getuid() == 0:
        os.chown(path, 0, STRANGER)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "above" / "folder"
    made.mkdir(parents=True, mode=0o755)
    return made


def linked(folder: Path, name: str, to: Path) -> None:
    """Put a link in place of a folder, which is elsewhere from now on."""
    to.mkdir()
    folder.rename(to / name)
    folder.symlink_to(to / name)


def test_a_folder_that_nobody_else_can_change_or_replace_has_no_fault(folder: Path, tmp_path: Path) -> None:
    assert fault(folder) == fault(folder / "that" / "is missing") == ""
    folder.parent.chmod(0o1777)  # as /tmp: nobody replaces what is another's
    assert fault(folder) == ""
    linked(folder, "moved", tmp_path / "elsewhere")
    assert fault(folder) == fault(Path(os.path.relpath(folder))) == ""


def a_file(folder: Path) -> None:
    folder.rmdir()
    folder.touch()


def anothers_link(folder: Path) -> None:
    linked(folder, "moved", folder.parent.parent / "elsewhere")
    given_away(folder)


def a_link_into_the_open(folder: Path) -> None:
    linked(folder, "moved", folder.parent.parent / "elsewhere")
    (folder.parent.parent / "elsewhere").chmod(0o777)


def a_link_by_way_of_one_in_the_open(folder: Path) -> None:
    above = folder.parent.parent
    linked(folder, "moved", above / "elsewhere")
    (above / "between").mkdir()
    (above / "between" / "link").symlink_to(above / "elsewhere")
    (above / "between").chmod(0o777)
    folder.unlink()
    folder.symlink_to(above / "between" / "link" / "moved")


SHARED: dict[str, Callable[[Path], object]] = {
    "another user's": given_away,
    "below another user's": lambda folder: given_away(folder.parent),
    "all may write": lambda folder: folder.chmod(0o777),
    "all may write, sticky": lambda folder: folder.chmod(0o1777),
    "a group may write": lambda folder: of_strangers(folder, 0o775),
    "all may write above": lambda folder: folder.parent.chmod(0o777),
    "a group may write far above": lambda folder: of_strangers(folder.parent.parent, 0o770),
    "a file": a_file,
    "another user's link to it": anothers_link,
    "a link into what all may change": a_link_into_the_open,
    "a link by way of one that all may change": a_link_by_way_of_one_in_the_open,
}


@pytest.mark.parametrize("shared", SHARED)
def test_a_folder_that_others_can_change_or_replace_has_a_fault_that_names_the_place(folder: Path, shared: str) -> None:
    SHARED[shared](folder)
    assert "/" in fault(folder)
    if not folder.is_file():
        assert fault(folder / "that" / "is missing")


def test_a_private_folder_is_one_that_nobody_else_enters(folder: Path) -> None:
    folder.chmod(0o700)
    assert fault(folder, OTHERS) == ""
    for mode in (0o701, 0o704, 0o711, 0o755):
        folder.chmod(mode)
        assert str(folder) in fault(folder, OTHERS)


def test_links_that_lead_nowhere_or_round_in_circles_are_errors(folder: Path) -> None:
    (folder / "nowhere").symlink_to(folder / "missing")
    (folder / "round").symlink_to(folder / "round")
    for each in ("nowhere", "round"):
        with pytest.raises(OSError, match=each):
            fault(folder / each)


def made(place: Path, mode: int, *, is_folder: bool = False) -> Path:
    if is_folder:
        place.mkdir()
    else:
        place.touch()
    place.chmod(mode)
    return place


PLANTED: dict[str, Callable[[Path], object]] = {
    "a link to a file": lambda place: place.symlink_to("/etc/passwd"),
    "a link to a folder": lambda place: place.symlink_to("/tmp"),
    "a link to nothing": lambda place: place.symlink_to("/nowhere"),
    "a FIFO": os.mkfifo,
    "a socket": lambda place: socket.socket(socket.AF_UNIX).bind(os.path.relpath(place)),
    "another user's file": lambda place: given_away(made(place, 0o600)),
    "another user's folder": lambda place: given_away(made(place, 0o700, is_folder=True)),
    "a file that all may write": lambda place: made(place, 0o666),
    "a folder that all may write": lambda place: made(place, 0o1777, is_folder=True),
}


@pytest.mark.parametrize("what", PLANTED)
@pytest.mark.parametrize("below", ["", "store", "store/deep"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_was_planted_is_found_wherever_it_is(tmp_path: Path, what: str, below: str) -> None:
    part = tmp_path / "part"
    (part / "store" / "deep").mkdir(parents=True)
    (part / "store" / "a file").touch()
    assert planted(part) == ""
    PLANTED[what](part / below / "p")
    assert planted(part).startswith(f"{part / below / 'p'} ")


@pytest.mark.parametrize("what", ["a link to a file", "a link to nothing", "a FIFO", "another user's file"])
def test_only_a_file_of_ones_own_is_opened_and_no_other_is_changed(tmp_path: Path, what: str) -> None:
    PLANTED[what](tmp_path / "p")
    if what == "another user's file":
        (tmp_path / "p").write_text("theirs")  # as root may
    for mode in ("r", "w", "a+", "wb"):
        with pytest.raises(OSError, match="p"):
            open(tmp_path / "p", mode, opener=open_own)  # noqa: SIM115
    assert what != "another user's file" or (tmp_path / "p").read_text() == "theirs"
    assert not Path("/nowhere").exists()


def test_a_file_that_is_made_is_for_this_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for mode in ("w", "a+", "xb"):
            with open(tmp_path / mode, mode, opener=open_own):
                assert (tmp_path / mode).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    (tmp_path / "w").write_text("before")
    with open(tmp_path / "w", "w", opener=open_own) as file:
        file.write("now")
    assert (tmp_path / "w").read_text() == "now"


SHOWN = {
    "plain words, größer, 日本語": "plain words, größer, 日本語",
    "\x1b]0;title\x07": "\\x1b]0;title\\x07",
    "line\r\nnext": "line\\r\\nnext",
    "\x9b31m\x7f": "\\x9b31m\\x7f",
    "\u202etxt.exe\u2066\u200f": "\\u202etxt.exe\\u2066\\u200f",
    "\udc80": "\\udc80",
    "[link=file:///]x[/link]": "[link=file:///]x[/link]",
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_text_of_others_has_nothing_that_a_terminal_would_carry_out(text: str) -> None:
    assert printable(text) == SHOWN[text]
    assert printable(text, "\r\n").replace("\r\n", "").isprintable()
