"""nxagent's options, and that a client's words stay within theirs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qvd.agent.nxoptions import DEFAULTS, options_line
from qvd.model.errors import InvalidRequest
from qvd.model.nxparameters import EXTRA, PARAMETER, RESERVED

CLIENT = {
    "qvd.client.keyboard": "pc105/es",
    "qvd.client.os": "linux",
    "qvd.client.link": "adsl",
    "qvd.client.geometry": "1024x768",
    "qvd.client.fullscreen": "1",
}


def line(more: Mapping[str, str] | None = None, *, loopback: bool = False) -> str:
    return options_line({**CLIENT, **(more or {})}, 100, loopback=loopback, tolerance="risky")


def test_what_a_client_sends() -> None:
    expected = "keyboard=pc105/es,client=linux,link=adsl,geometry=1024x768,fullscreen=1,tolerancechecks=risky"
    assert line() == f"nx/nx,{expected}:100\n"


def test_a_sandbox_listens_to_its_own_machine_only() -> None:
    assert line(loopback=True).endswith(",tolerancechecks=risky,loopback=1:100\n")


def test_what_is_missing_has_a_default() -> None:
    assert options_line({}, 7, loopback=False, tolerance="safe") == (
        "nx/nx,keyboard=pc105/us,client=linux,link=adsl,tolerancechecks=safe:7\n"
    )


def test_what_is_empty_is_left_out() -> None:
    assert "fullscreen" not in line({"qvd.client.fullscreen": ""})
    assert "keyboard" not in line({"qvd.client.keyboard": ""})


def test_extra_options_follow() -> None:
    assert line({EXTRA: "cache=64M,render=1"}).endswith(",tolerancechecks=risky,cache=64M,render=1:100\n")
    assert line({EXTRA: ""}) == line()
    assert line({EXTRA: " , "}) == line()


@pytest.mark.parametrize("value", ["a,b=c", "a:1", "a b", "a\n", "a=b", "../$", "é", "x" * 257])
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_value_cannot_become_another_option(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"invalid characters in parameter {PARAMETER[name]}"):
        line({PARAMETER[name]: value})


@pytest.mark.parametrize("value", ["x", "x=a b", "x=/etc/passwd", "x=a:5", "X=1", "x=1,,y=1", "x=1\ny=1", "=1"])
def test_extra_options_are_checked(value: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid characters"):
        line({EXTRA: value})


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_some_options_are_not_the_clients(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"option {name} is not allowed"):
        line({EXTRA: f"cache=1M,{name}=1"})


@given(st.dictionaries(st.sampled_from([*PARAMETER.values(), EXTRA]), st.text(max_size=40)))
def test_whatever_a_client_sends_the_line_is_one_with_known_ends(parameters: dict[str, str]) -> None:
    try:
        text = options_line(parameters, 100, loopback=True, tolerance="risky")
    except InvalidRequest:
        return
    assert text.startswith("nx/nx,")
    assert text.endswith(":100\n")
    assert text.count("\n") == 1
    assert text.isascii()
    names = [option.partition("=")[0] for option in text[len("nx/nx,") : -len(":100\n")].split(",")]
    assert names.count("loopback") == 1
    assert "options" not in names
