"""What the database says no to, in words of ours."""

from __future__ import annotations

import pytest

from qvd.interfaces import ITransaction
from qvd.model.errors import DatabaseUnavailable, Refused
from tests.admin.conftest import api
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous

__all__ = ["api"]


@asynchronous
async def test_a_missing_value_is_told_without_the_words_of_the_server(api: ApiWorld) -> None:
    async def work(tx: ITransaction) -> None:
        await tx.execute("INSERT INTO osfs (tenant_id, name) VALUES (%s, 'a')", (api.acme,))

    with pytest.raises(Refused) as caught:
        await api.services.changes.transact("test", "test", work)
    assert (caught.value.text, caught.value.kind) == ("A value is missing (memory)", "check")


@pytest.mark.parametrize("code", ["25006", "40001", "40P01", "53100", "53200", "55P03", "57014"])
@asynchronous
async def test_what_passes_is_told_as_that(api: ApiWorld, code: str) -> None:
    async def work(tx: ITransaction) -> None:
        await tx.execute(f"DO $$ BEGIN RAISE EXCEPTION 'of the server''s own' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(DatabaseUnavailable) as caught:
        await api.services.changes.transact("test", "test", work)
    assert caught.value.text == "The database cannot do that now; try again in a few seconds"
    assert caught.value.retry_after
