"""Images on pages: made of files, and their life."""

from __future__ import annotations

from tests.admin.desks import Desks
from tests.admin.imageworld import DISK
from tests.admin.world import ApiWorld
from tests.fakes.asynchronous import asynchronous
from tests.panel.browser import Browser, sound


def newer(desks: Desks, state: str = "published") -> int:
    """Another image of acme's OSF, after the one that is default."""
    sql = "dis (tenant_id, osf_id, path, version, state) VALUES (%s, %s, '', '2', %s)"
    return desks.api.insert(sql, desks.api.acme, desks.osf, state)


@asynchronous
async def test_moving_a_tag_shows_first_whom_it_touches(anna: Browser, desks: Desks) -> None:
    desks.api.ask("INSERT INTO di_tags VALUES (%s, 'default', %s) ON CONFLICT DO NOTHING", desks.osf, desks.di)
    path = f"/panel/images/{newer(desks)}/life"
    page = sound(await anna.get(path))
    form = {**page.form(f"{path}/tag"), "tag": "default"}
    page = sound(await anna.post(f"{path}/tag", form))
    assert "1 VM starts from this image from then on" in page.main.text and "alice-1" in page.main.text
    assert desks.api.ask("SELECT di_id FROM di_tags WHERE tag = 'default' AND osf_id = %s", desks.osf) == [
        {"di_id": desks.di}
    ]
    page = sound(await anna.post(f"{path}/tag", page.form(f"{path}/tag")))
    assert "The tag leads here now" in page.root.text
    chips = [each.text for each in page.main.one("ul", class_="chips").all("span")]
    assert "default" in chips


@asynchronous
async def test_tags_come_and_go(anna: Browser, desks: Desks) -> None:
    path = f"/panel/images/{newer(desks, 'ready')}/life"
    form = (await anna.get(path)).form(f"{path}/tag")
    page = sound(await anna.post(f"{path}/tag", {**form, "tag": "te st <b>", "sure": "yes"}))
    assert "When it is published it takes over" in page.main.text and "te st <b>" in page.main.text
    page = sound(await anna.post(f"{path}/untag", {**form, "tag": "te st <b>"}))
    assert "te st <b>" not in page.main.text
    page = sound(await anna.post(f"{path}/tag", {**form, "tag": "head", "sure": "yes"}))
    assert page.status == 409 and page.main.all("div", class_="trouble")
    for wrong in ("", "a/b"):
        assert (await anna.post(f"{path}/tag", {**form, "tag": wrong})).status == 404


@asynchronous
async def test_its_life(anna: Browser, desks: Desks) -> None:
    path = f"/panel/images/{newer(desks, 'ready')}/life"
    page = sound(await anna.get(path))
    page = sound(await anna.post(f"{path}/publish", page.form(f"{path}/publish")))
    assert "Publish this image?" in page.main.text
    page = sound(await anna.post(f"{path}/publish", page.form(f"{path}/publish")))
    assert "published" in page.main.text and "It is done" in page.root.text
    page = sound(await anna.post(f"{path}/retire", page.form(f"{path}/retire")))
    assert "retired" in page.main.text
    assert (await anna.post(f"{path}/explode", page.form("/panel/logout"))).status == 404


@asynchronous
async def test_an_image_is_made_of_a_staged_file(anna: Browser, desks: Desks, logins: ApiWorld) -> None:
    page = sound(await anna.get(f"/panel/images/new?osf_id={desks.osf}"))
    assert "There is no file in it" in page.main.text
    places = logins.services.places
    assert places is not None and places.staging is not None
    (places.staging / "desk.qcow2").write_bytes(DISK)
    page = sound(await anna.get(f"/panel/images/new?osf_id={desks.osf}"))
    (which,) = [
        number
        for number, form in enumerate([f for f in page.root.all("form") if f["action"] == "/panel/images/new"])
        if form.all("select", id="staged-file")
    ]
    form = {**page.form("/panel/images/new", which), "version": "9", "tags": "new, newer"}
    assert form["file"] == "desk.qcow2" and form["osf_id"] == str(desks.osf)
    page = sound(await anna.post("/panel/images/new", form))
    assert "The image is being made" in page.root.text and "newer" in page.main.text
    page = sound(await anna.post("/panel/images/new", {**form, "file": "none.img"}))
    assert page.status == 404 and page.form("/panel/images/new", 0)["version"] == "9"


@asynchronous
async def test_a_file_is_sent_by_a_script(anna: Browser, desks: Desks) -> None:
    page = sound(await anna.get("/panel/images/new"))
    form = next(form for form in page.root.all("form") if "data-upload" in form.attributes)
    assert form["data-worker"].startswith("/panel/static/sha256.") and form.one("input", type="file")["name"] == "file"
