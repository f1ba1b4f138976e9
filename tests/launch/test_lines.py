"""What a process writes comes line by line, whole, and as a terminal would show it."""

import pytest

from graphstate.launch._lines import Lines

GREETING = b"[Gloo] Rank 0 is connected to 7 peer ranks. Expected number of connected peer ranks is : 7"


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntw", b"o\n"], ["one", "two"]),
        ([b"no end"], ["no end"]),
        ([b"3 is connected to 5\n"], ["3 is connected to 5"]),
        ([b"\n\n"], ["", ""]),
        ([b"caf\xc3", b"\xa9\n", b"\xff\n"], ["café", "\ufffd"]),
        ([b"1/3\r", b"2/3\r3/3", b"\n"], ["3/3"]),
        ([b"\r1/3", b"\r2/3", b"\r3/3"], ["3/3"]),
        ([b"ends as in DOS\r\n"], ["ends as in DOS"]),
        ([GREETING + b"\n" + b"said" + GREETING + b"\n"], ["said"]),
        ([b"said" + GREETING + b"\n\n", b"\n"], ["said", ""]),
        ([GREETING + GREETING + b"\n", b"\nsaid\n"], ["said"]),
        ([b"[Gloo] Rank [Gloo] Rank 00 is connected to  is connected to 77" + GREETING[31:] + b"\n\n", b"7\n"], ["7"]),
    ],
)
def test_lines_come_whole(pieces: list[bytes], lines: list[str]) -> None:
    taken: list[str] = []
    each = Lines(taken.append)
    for piece in pieces:
        each.feed(piece)
    each.close()
    assert taken == lines


def test_a_progress_bar_is_not_kept_whole() -> None:
    lines = Lines(lambda line: None)
    for number in range(1000):
        lines.feed(b"\r%03d/1000" % number)
    assert len(lines._rest) < 20
