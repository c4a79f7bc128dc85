"""L{qvd.admin.login.proofs}, and what the gate reads of headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.admin.login.gate import covers, is_own
from qvd.admin.login.proofs import COOKIE, csrf_of, digest, new_proof, read_cookie, set_cookie
from qvd.model.secret import Secret


def test_cookies() -> None:
    proof = new_proof()
    assert len(proof.reveal()) == 43
    assert read_cookie(set_cookie(proof).partition(";")[0]) == proof
    assert read_cookie(f"a=b; {COOKIE}={proof.reveal()}; c=d") == proof
    for other in ('a={"b": [1, 2]}', 'a="b', "a", "=", "\xe9=\xe9"):
        assert read_cookie(f"{other}; {COOKIE}={proof.reveal()}") == proof
    assert csrf_of(proof) != digest(proof).hex()
    assert csrf_of(proof) != csrf_of(new_proof())


@pytest.mark.parametrize(
    "other", ['a={"x": 1}', "a=b c", 'a="b', "é=1", "a", "=", "", "a=[1,2]", "__Host-qvd2=x", "x__Host-qvd=y", "a=b=c"]
)
def test_cookies_of_others_are_no_hindrance(other: str) -> None:
    """Whoever has a page on a neighbouring host could lock everybody out with one."""
    for header in (f"{other}; {COOKIE}=mine", f"{COOKIE}=mine; {other}", f"{other};{COOKIE}=mine;{other}"):
        assert read_cookie(header) == Secret("mine")


@pytest.mark.parametrize("header", [f"{COOKIE}=a; {COOKIE}=b", f"{COOKIE}=a b", f'{COOKIE}="a"', f"{COOKIE.lower()}=a"])
def test_cookies_that_are_none(header: str) -> None:
    assert read_cookie(header) is None


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_cookies_of_any_kind(text: str) -> None:
    for header in (text, f"{COOKIE}={text}", f"{text}; {COOKIE}=x"):
        found = read_cookie(header)
        assert found is None or found.reveal()


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("https://a.example", "a.example", True),
        ("https://A.example", "a.EXAMPLE", True),
        ("https://a.example:9443", "a.example:9443", True),
        ("https://a.example", "a.example:443", True),
        ("https://a.example:443", "a.example", True),
        ("https://[2001:db8::1]", "[2001:db8::1]:443", True),
        ("https://a.example:9443", "a.example", False),
        ("https://a.example", "a.example:9443", False),
        ("http://a.example", "a.example", False),
        ("https://a.example.evil", "a.example", False),
        ("https://evil@a.example", "a.example:9443", False),
        ("https://[", "a.example", False),
        ("null", "null", False),
        ("", "", False),
        ("https://", "", False),
    ],
)
def test_origins(origin: str, host: str, own: bool) -> None:
    assert is_own(origin, host) is own


def test_scopes() -> None:
    assert covers(["vm.see*"], "vm.see-main.") and covers(["*"], "x") and covers(["a.b."], "a.b.")
    assert not covers(["vm.see"], "vm.see-main.") and not covers([], "x") and not covers(["vm.*"], "vmx.")


def test_digests_of_what_is_no_text() -> None:
    assert len(digest(Secret("\udcff"))) == 32
