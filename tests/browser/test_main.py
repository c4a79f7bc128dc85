"""What administrators come to the panel for, from the first log-in on."""

from __future__ import annotations

import pyotp

from tests.browser.farm import GIB, PASSWORD, Farm
from tests.browser.logins import log_in, log_out
from tests.browser.window import Window


def test_the_first_log_in_replaces_the_one_time_secret(window: Window, farm: Farm) -> None:
    log_in(window, "admin", "*", farm.secret.reveal())
    window.see("You logged in with a one-time secret")
    window.go("/panel/users")
    assert window.path == "/panel/password", "nothing else can be done before"
    for name, value in (("current", farm.secret.reveal()), ("new", PASSWORD), ("again", PASSWORD)):
        window.fill(name, value)
    window.submit("Change password")
    window.see("What needs somebody now")
    log_out(window)
    log_in(window, "admin", "*", farm.secret.reveal())
    window.see("Log in")
    window.complaints()
    log_in(window, "admin", "*")
    assert window.path == "/panel/"


def create(window: Window, collection: str, button: str, **fields: str) -> int:
    """Fill in the form of a new object; its number."""
    window.go(f"/panel/{collection}/new")
    for name, value in fields.items():
        window.fill(name, value)
    window.submit(button)
    assert window.path.split("/")[-1].isdigit(), window.text
    return int(window.path.split("/")[-1])


def test_a_user_an_osf_and_a_vm_that_starts(anna: Window, farm: Farm) -> None:
    create(anna, "users", "New user", name="newcomer", password="a password")
    anna.see("newcomer")
    osf = create(anna, "osfs", "New OSF", name="Fresh desktop", memory="2 GiB")
    assert farm.ask("SELECT memory FROM osfs WHERE id = %s", osf) == [{"memory": 2 * GIB}]
    farm.image(osf, "1", "default")
    vm = create(anna, "vms", "New VM", name="fresh-1", user_id="newcomer", osf_id="Fresh desktop")
    assert anna.one("[data-field=state]").text.endswith("Stopped")
    anna.submit("Start")
    row = farm.ask("SELECT desired_state FROM vm_runtimes WHERE vm_id = %s", vm)
    assert row == [{"desired_state": "running"}]
    # What follows is done by a node, and seen without the page being loaded again.
    anna.run("window.here = true")
    for state, said in (("starting", "Starting"), ("running", "Running")):
        farm.state(vm, state, farm.hosts[0])
        shown(anna, said)
    anna.until(lambda: "Stop" in [each.text.rstrip("…") for each in anna.all("[data-part=acts] button, a")], "Stop")
    assert anna.run("return window.here === true")


def shown(window: Window, state: str) -> None:
    """Wait for the page to say it."""
    window.until(lambda: window.one("[data-field=state]").text.endswith(state), f"it is shown as {state}")


def test_a_list_follows_its_objects(anna: Window, farm: Farm) -> None:
    vm = farm.ask("SELECT id FROM vms WHERE name = 'botany-02'")[0]["id"]
    farm.state(vm, "stopped")
    anna.go("/panel/vms?columns=name,state,user_state")
    cell = f"tr[data-id='{vm}'] [data-field=state]"
    assert anna.one(cell).text.endswith("Stopped")
    anna.run("window.here = true")
    anna.rest(1)
    farm.state(vm, "running", farm.hosts[0])
    anna.until(lambda: anna.one(cell).text.endswith("Running"), "the row says so")
    assert anna.run("return window.here === true")


def test_why_a_vm_could_not_start(anna: Window, farm: Farm) -> None:
    anna.go("/panel/")
    anna.submit("physics-25")
    anna.see("Why is it in this state?")
    for said in ("The disk image 8-broken cannot be read", "has failed 2 times", "has not enough memory", "is lost"):
        anna.see(said)


def test_an_image_is_tagged_with_its_consequences_shown(anna: Window, farm: Farm) -> None:
    image = farm.examples()["image"]
    anna.go(f"/panel/images/{image}")
    anna.submit("Tags and publication")
    anna.fill("tag", "default")
    anna.submit("Put it on this image")
    anna.see("Move the tag default here?")
    anna.see("VMs start from this image from then on")
    anna.submit("Move the tag")
    anna.see("The tag leads here now")
    assert farm.ask("SELECT di_id FROM di_tags WHERE tag = 'default' AND di_id = %s", image)


def test_an_administrator_sees_only_what_the_role_gives(anna: Window, farm: Farm) -> None:
    anna.go("/panel/roles/new")
    anna.fill("name", "Watcher")
    anna.submit("Make the role")
    anna.fill("q", "vm.see-")
    anna.submit("Show")
    anna.press("[id='acl-vm.see-main.']")
    anna.submit("Save permissions")
    anna.see("The permissions are changed")
    role = farm.ask("SELECT id FROM roles WHERE name = 'Watcher'")[0]["id"]
    assert farm.ask("SELECT acl, positive FROM role_acls WHERE role_id = %s", role) == [
        {"acl": "vm.see-main.", "positive": True}
    ]
    anna.go("/panel/administrators/new")
    anna.fill("name", "otto")
    anna.fill("password", PASSWORD)
    anna.press(f"input[name=roles][value='{role}']")
    anna.submit("Make the administrator")
    anna.see("Roles of otto")
    log_out(anna)
    log_in(anna, "otto", "acme")
    menu = [each.text for each in anna.all("nav.menu a")]
    assert menu == ["Home", "VMs", "Jobs"]
    anna.go("/panel/vms")
    anna.see("physics-25")
    assert not anna.all("#many, a[href='/panel/vms/new']"), "nothing can be changed"
    anna.go("/panel/users")
    anna.see("permission")
    assert "403" in " ".join(anna.complaints())


def test_a_deletion_shows_what_goes_with_it(anna: Window, farm: Farm) -> None:
    user = farm.user("leaver")
    vm = farm.vm(user, farm.examples()["osf"], "leaver-1")
    anna.go(f"/panel/users/{user}")
    anna.moving(lambda: anna.choose("Delete…"))
    anna.see("Other objects depend on it")
    anna.see("It cannot be brought back")
    assert farm.ask("SELECT id FROM users WHERE id = %s", user), "nothing is gone yet"
    anna.fill("cascade", "true")
    anna.submit("Delete")
    assert not farm.ask("SELECT id FROM users WHERE id = %s", user)
    assert not farm.ask("SELECT id FROM vms WHERE id = %s", vm)
    anna.complaints()


def test_a_second_factor_from_the_picture_on(anna: Window) -> None:
    anna.go("/panel/me")
    anna.submit("Set up an authenticator")
    assert anna.run("const p = document.querySelector('img.qr'); return p.complete && p.naturalWidth > 100")
    secret = anna.one("#secret").text
    assert anna.violations() == []
    anna.fill("otp", pyotp.TOTP(secret).now())
    anna.submit("Use it from now on")
    anna.see("Recovery codes")
    codes = [each.text for each in anna.all(".codes code")]
    assert anna.violations() == []
    log_out(anna)
    log_in(anna, "anna", "acme")
    anna.see("second factor")
    anna.fill("password", PASSWORD)
    anna.fill("otp", codes[0])
    anna.submit("Log in")
    assert anna.path == "/panel/"
    anna.go("/panel/me")
    anna.submit("Do without the authenticator")
    anna.see("No code is asked for any more")
    anna.complaints()
