"""Files of images, sent by the page's script."""

from __future__ import annotations

from pathlib import Path

from tests.browser.farm import Farm
from tests.browser.serving import Serving
from tests.browser.window import Window

PIECE = 8 * 1024**2


def disk(folder: Path, size: int, name: str = "desk.qcow2") -> Path:
    """What begins as an image for kvm does."""
    path = folder / name
    block = bytes(range(256)) * 4096
    path.write_bytes(b"QFI\xfb" + (block * (size // len(block) + 1))[: size - 4])
    return path


def choose(window: Window, osf: int, path: Path, version: str) -> None:
    """Fill in the form."""
    window.go(f"/panel/images/new?osf_id={osf}")
    window.one("form[data-upload] [name=file]").send_keys(str(path))
    window.one("form[data-upload] [name=version]").send_keys(version)


def state(farm: Farm, version: str) -> str:
    rows = farm.ask("SELECT state, message FROM dis WHERE version = %s", version)
    return f"{rows[0]['state']} {rows[0]['message']}".strip() if rows else ""


def test_a_file_is_sent_with_progress(anna: Window, farm: Farm, tmp_path: Path) -> None:
    path = disk(tmp_path, 3 * PIECE + 17)
    choose(anna, farm.examples()["osf"], path, "sent")
    anna.choose("Send")
    anna.until(lambda: anna.path.endswith("/life"), "the image's page", 60)
    anna.until(lambda: state(farm, "sent") == "ready", f"the image is ready: {state(farm, 'sent')}", 60)
    # The page follows, though nobody loads it again.
    anna.see("ready")


def test_a_file_goes_on_where_it_stopped(anna: Window, farm: Farm, serving: Serving, tmp_path: Path) -> None:
    path = disk(tmp_path, 6 * PIECE)
    choose(anna, farm.examples()["osf"], path, "resumed")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 3 * PIECE}
    anna.chrome.execute_cdp_cmd("Network.enable", {})
    anna.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    anna.choose("Send")

    def received() -> int:
        rows = farm.ask("SELECT received FROM dis WHERE version = 'resumed'")
        return int(rows[0]["received"]) if rows else 0

    anna.until(lambda: received() >= PIECE, "a piece is there", 60)
    anna.choose("Pause")
    anna.see("Stopped")
    anna.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", {**slow, "uploadThroughput": -1})
    there = received()
    assert PIECE <= there < 6 * PIECE
    # The browser was closed meanwhile, as it were: on the image's own page the file is chosen again.
    number = farm.ask("SELECT id FROM dis WHERE version = 'resumed'")[0]["id"]
    anna.go(f"/panel/images/{number}/life")
    anna.one("#again").send_keys(str(disk(tmp_path, 100, "other.qcow2")))
    anna.see("That is another file")
    anna.one("#again").send_keys(str(path))
    anna.until(lambda: state(farm, "resumed") in ("verifying", "ready"), "all of it is sent", 60)
    anna.until(lambda: state(farm, "resumed") == "ready", "its checksum is right", 60)
    sent = [line for line in serving.log.splitlines() if "PATCH /api/v1/uploads/" in line and ": 204" in line]
    assert sent


def test_what_is_no_image_fails_and_says_why(anna: Window, farm: Farm, tmp_path: Path) -> None:
    path = tmp_path / "none.txt"
    path.write_bytes(b"Not an image at all" * 100)
    choose(anna, farm.examples()["osf"], path, "wrong")
    anna.choose("Send")
    anna.until(lambda: state(farm, "wrong").startswith("fail"), "it failed", 60)
    anna.see(state(farm, "wrong").partition(" ")[2][:20])


def test_a_refused_creation_stays_on_the_form(anna: Window, farm: Farm, tmp_path: Path) -> None:
    choose(anna, farm.examples()["osf"], disk(tmp_path, 1000), "2026.10")
    anna.choose("Send")
    anna.see("It could not be sent")
    assert anna.path == "/panel/images/new"
    anna.complaints()
