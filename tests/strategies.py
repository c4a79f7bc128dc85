"""What the property tests draw from."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

unicode_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
"""Whatever UTF-8 can hold."""

queries = st.lists(st.tuples(unicode_texts.filter(bool), unicode_texts), max_size=8)

tokens = st.text(st.sampled_from(TOKEN), min_size=1, max_size=12)
_values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map(lambda text: text.strip(" \t"))
headers = st.lists(
    st.tuples(tokens.filter(lambda name: name.lower() not in ("content-length", "transfer-encoding")), _values),
    max_size=6,
)
_targets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30).map(lambda text: f"/{text}")
line_ends = st.sampled_from(["\n", "\r\n"])


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    """A well-formed head as the most careless of clients would write it."""
    lines = [f"{draw(tokens)} {draw(_targets)} HTTP/1.1", *(f"{name}: {value}" for name, value in draw(headers)), ""]
    return "".join(line + draw(line_ends) for line in lines).encode()


near_http = st.lists(
    st.one_of(
        st.binary(max_size=8),
        st.sampled_from(
            [b"GET /", b" HTTP/1.1", b"\r", b"\n", b"\r\n", b"\n\n", b"Content-Length: ", b"0", b": ", b"\0"]
        ),
        st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 ", b"HTTP/1.1 102 x\n\n", b"Content-Length: 3\n\nabc"]),
        request_heads(),
    ),
    max_size=10,
).map(b"".join)
"""Bytes that look enough like HTTP to get somewhere."""


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The same bytes, cut anywhere."""
    cuts = sorted(draw(st.sets(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
