"""What a node says of the disk images in its storage, and a storage that does not answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from qvd.hkd.files.threads import in_daemon_thread
from qvd.hkd.images import ImageFolder, ImageParts, ImageWatch
from qvd.model.errors import DatabaseUnavailable
from qvd.model.ids import DIId, Epoch
from qvd.model.records import Lease
from qvd.protocols.channels import images_changed
from tests.fakes.bells import FakeBells
from tests.fakes.case import Case
from tests.fakes.images import FakeImages
from tests.fakes.ownership import HOST

Names = Collection[str]


class FolderTests(Case):
    def setUp(self) -> None:
        temporary = TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.path = Path(temporary.name)
        self.clock = Clock()
        self.works: list[Callable[[], Names]] = []
        self.answers: list[Deferred[Names]] = []
        self.folder = ImageFolder(self.clock, self.path, self.in_thread, 5.0)

    def in_thread(self, work: Callable[[], Names]) -> Deferred[Names]:
        self.works.append(work)
        self.answers.append(Deferred())
        return self.answers[-1]

    def finish(self) -> None:
        """The thread is through."""
        try:
            names = self.works.pop(0)()
        except OSError as error:
            self.answers.pop(0).errback(error)
        else:
            self.answers.pop(0).callback(names)

    def names(self, listing: Deferred[Names]) -> list[str]:
        found = self.result(listing)
        return sorted(found)

    def test_it_names_files_and_folders(self) -> None:
        (self.path / "desk").mkdir()
        (self.path / "kvm.qcow2").touch()
        listing = self.begin(self.folder.list())
        assert self.waits(listing)
        self.finish()
        assert self.names(listing) == ["desk", "kvm.qcow2"]
        assert self.clock.getDelayedCalls() == []

    def test_a_folder_that_is_not_there_holds_nothing(self) -> None:
        os.rmdir(self.path)
        listing = self.begin(self.folder.list())
        self.finish()
        assert not self.result(listing)
        self.path.mkdir()
        (self.path / "desk").mkdir()
        listing = self.begin(self.folder.list())
        self.finish()
        assert self.names(listing) == ["desk"]

    def test_a_storage_that_hangs_holds_nothing_and_takes_one_thread(self) -> None:
        (self.path / "desk").mkdir()
        for _ in range(3):
            listing = self.begin(self.folder.list())
            self.clock.advance(5)
            assert not self.result(listing)
        assert len(self.works) == 1
        listing = self.begin(self.folder.list())
        self.finish()
        assert self.names(listing) == ["desk"]


class ThreadTests(Case):
    """With a reactor that keeps what a thread hands over."""

    def setUp(self) -> None:
        self.handed: list[Callable[[], object]] = []

    def callFromThread(self, f: Callable[..., object], *arguments: object) -> None:
        self.handed.append(lambda: f(*arguments))

    def run_through(self, work: Callable[[], Names]) -> Deferred[Names]:
        done = in_daemon_thread(self, work)  # type: ignore[arg-type]
        while not self.handed:
            os.sched_yield()
        assert not done.called
        self.handed.pop()()
        return done

    def test_a_result_is_handed_over(self) -> None:
        assert self.result(self.run_through(lambda: ["desk"])) == ["desk"]

    def test_a_failure_is_handed_over(self) -> None:
        def fail() -> Names:
            raise PermissionError(13, "Permission denied")

        assert self.failure(self.run_through(fail), PermissionError).strerror == "Permission denied"


class WatchTests(Case):
    def setUp(self) -> None:
        self.clock, self.bells, self.images = Clock(), FakeBells(), FakeImages()
        self.conduct = self.images.conduct
        self.images.paths = {DIId(1): "old", DIId(2): "new"}
        self.images.here = {"old", "something else"}
        parts = ImageParts(self.images, self.images.names, 60.0)
        self.watch = ImageWatch(self.clock, Lease(HOST, Epoch(1)), self.bells, parts)

    def test_it_says_what_it_sees(self) -> None:
        self.result(self.watch.look())
        assert self.images.published == [1]

    def test_a_node_that_sees_none_says_so_too(self) -> None:
        self.images.here = set()
        self.result(self.watch.look())
        assert self.images.published == []

    def test_what_has_not_changed_is_not_written(self) -> None:
        self.watch.start()
        self.clock.pump([60.0] * 5)
        assert self.conduct.count("registered") == 6
        assert self.conduct.count("publish_images") == 1

    def test_an_image_that_comes_or_goes_is_noticed(self) -> None:
        self.watch.start()
        self.images.here = {"new"}
        self.clock.advance(60)
        assert self.images.published == [2]

    def test_the_bell_makes_it_look_at_once(self) -> None:
        self.watch.start()
        self.images.paths[DIId(3)] = "something else"
        self.bells.ring(images_changed())
        assert self.images.published == [1, 3]

    def test_it_goes_on_after_the_database_was_away(self) -> None:
        self.conduct.fail("publish_images", DatabaseUnavailable("The database does not answer"))
        self.watch.start()
        assert self.images.published is None
        self.clock.advance(60)
        assert self.images.published == [1]

    def test_it_stops(self) -> None:
        self.watch.start()
        self.result(self.watch.stop())
        assert self.clock.getDelayedCalls() == []
        assert self.bells.heard(images_changed()) == 0
