"""The lines between a node and the agent of a virtual machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qvd.protocols.guestchannel import LIMIT, Lines, Saying, Word, encode, encode_marker

ASK = Saying(Word.ASK)


def test_there_and_back() -> None:
    said = Lines().feed(b"\n" + encode(Word.ASK) + encode_marker({"vm_id": 9}) + encode(Word.POWEROFF))
    assert said == [ASK, Saying(Word.MARKER, b'{"vm_id": 9}'), Saying(Word.POWEROFF)]


def test_what_is_no_saying_is_passed_over() -> None:
    noise = [b"", b"login:", b"[]", b"3", b'{"say": 1}', b'{"say": "x"}', b'{"say": []}', b'{"say": "marker"}', b"\xff"]
    assert Lines().feed(b"\n".join([*noise, encode(Word.ASK)])) == [ASK]


def test_depth_is_no_danger() -> None:
    assert Lines().feed(b"[" * (LIMIT - 1) + b"\n" + encode(Word.ASK)) == [ASK]


def test_an_overlong_line_is_forgotten_as_it_comes() -> None:
    lines = Lines()
    for _ in range(100):
        assert lines.feed(b"x" * LIMIT) == []
        assert len(lines._rest) <= LIMIT
    assert lines.feed(encode(Word.ASK)) == []
    assert lines.feed(encode(Word.ASK)) == [ASK]


def test_an_overlong_line_in_one_piece() -> None:
    padded = b'{"say": "ask"' + b" " * LIMIT + b"}\n"
    assert Lines().feed(padded + encode(Word.ASK)) == [ASK]


@given(st.lists(st.sampled_from(list(Word)).filter(lambda word: word is not Word.MARKER)), st.data())
def test_any_chunks(words: list[Word], data: st.DataObject) -> None:
    whole, lines, said = b"".join(map(encode, words)), Lines(), []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        said += lines.feed(whole[:size])
        whole = whole[size:]
    assert said == [Saying(word) for word in words]


@given(st.binary())
def test_nothing_upsets_it(data: bytes) -> None:
    Lines().feed(data)
