"""L{qvd.admin.login.codes}."""

from __future__ import annotations

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.admin.login.codes import STEP, counter_of, new_recovery_codes, new_secret, recovery_digest
from qvd.model.secret import Secret

SECRET = Secret("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")


@pytest.mark.parametrize(("at", "code"), [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")])
def test_codes_of_the_standard(at: int, code: str) -> None:
    """RFC 6238, appendix B; the last six digits."""
    assert counter_of(SECRET, code, at, 0) == at // STEP


@given(st.integers(300, 1 << 40), st.integers(-3, 3), st.integers(-3, 3))
def test_leeway_and_replay(now: int, off: int, last: int) -> None:
    present = now // STEP
    found = counter_of(SECRET, pyotp.TOTP(SECRET.reveal()).generate_otp(present + off), now, present + last)
    assert found is None or (abs(found - present) <= 1 and found > present + last)
    if abs(off) <= 1 and off > last:
        assert found is not None


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "２８７０８２", "287082 "])  # noqa: RUF001
def test_what_is_no_code(code: str) -> None:
    assert counter_of(SECRET, code, 59 + 3600, 0) is None


def test_recovery_codes() -> None:
    codes = [code.reveal() for code in new_recovery_codes()]
    assert len(set(codes)) == 10
    assert recovery_digest(codes[0]) == recovery_digest(f" {codes[0].lower().replace('-', '')} ")
    assert recovery_digest(codes[0]) != recovery_digest(codes[1])
    assert recovery_digest("123456") is None
    assert len(new_secret().reveal()) == 32
