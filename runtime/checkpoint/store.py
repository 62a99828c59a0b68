"""The checkpoints of one run: begun, committed, found again, pruned.

A checkpoint is written into ``step-N.partial-X``, verified there, given its manifest, and only then
renamed to ``step-N``. So a folder with a step's plain name was complete once, and whatever a crash
leaves has a name that is never read. ``latest`` moves last.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ithaca.runtime.atomic import Disk, is_temporary, replace_file
from ithaca.runtime.checkpoint import manifest as manifests
from ithaca.runtime.checkpoint.damage import CheckpointFailedError, Damage, DamagedError
from ithaca.runtime.checkpoint.folder import (
    LATEST,
    Leftover,
    leftover_of,
    leftover_path,
    step_name,
    step_of,
)
from ithaca.runtime.checkpoint.manifest import Manifest
from ithaca.runtime.checkpoint.reader import check_layer, opened, read_whole
from ithaca.runtime.checkpoint.record import RecordError
from ithaca.runtime.lock import RunLock

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint whose manifest and files were all verified; can be sent to workers."""

    folder: Path
    manifest: Manifest

    @property
    def step(self) -> int:
        """Committed steps in its state."""
        return self.manifest.step


@dataclass(frozen=True, slots=True)
class Search:
    """The newest checkpoint that is whole, and what is wrong with everything newer."""

    found: Found | None
    damages: tuple[Damage, ...]


class CheckpointStore:
    """The folder ``<run folder>/checkpoints``.

    One process, the holder of the run's :class:`RunLock`, may begin, commit, abandon and clean;
    any process may look for checkpoints and read them meanwhile.

    Args:
        folder: the run folder.
        keep: how many of the newest checkpoints stay; at least 1.
        disk: where the file operations go.
    """

    def __init__(self, folder: Path, keep: int, disk: Disk | None = None) -> None:
        if keep < 1:
            raise ValueError(f"at least 1 checkpoint must be kept, not {keep}")
        self.root = folder / "checkpoints"
        self._keep = keep
        self.disk = disk or Disk()
        self._open: dict[int, Path] = {}
        self._damaged: set[Path] = set()
        self._discarded: set[Path] = set()

    # -- writing

    def begin(self, step: int) -> Path:
        """Makes and returns the folder into which the layers of ``step`` are to be written.

        An unfinished checkpoint of the same step is given up first.

        Raises:
            CheckpointFailedError: the folder cannot be made.
        """
        self.abandon(step)
        partial = leftover_path(self.root, step, Leftover.PARTIAL)
        try:
            if not self.root.is_dir():
                self.disk.make_folder(self.root)
                self.disk.sync_folder(self.root.parent)
            self.disk.make_folder(partial)
        except OSError as error:
            raise CheckpointFailedError(step, f"{partial}: {error.strerror or error}") from error
        self._open[step] = partial
        return partial

    def commit(self, manifest: Manifest) -> Found:
        """Makes the checkpoint that ``begin(manifest.step)`` began visible, and prunes old ones.

        Every layer's file is read back from the disk and compared with the manifest first.

        Raises:
            CheckpointFailedError: a file is not what its writer reported, or the disk failed. A
                half-written folder is removed; the checkpoints before are as they were.
            ValueError: no checkpoint of this step was begun.
        """
        step = manifest.step
        partial = self._open.get(step)
        if partial is None:
            raise ValueError(f"no checkpoint of step {step} was begun")
        try:
            for layer in manifest.layers:
                check_layer(partial, layer)
            replace_file(partial / manifests.FILE, [manifest.to_bytes()], self.disk)
            found = Found(partial, _read_manifest(partial))
            final = self._publish(partial, step)
        except (OSError, DamagedError) as error:
            self.abandon(step)
            raise CheckpointFailedError(step, str(error)) from error
        del self._open[step]
        self._damaged.discard(final)
        self._discarded.discard(final)
        try:
            replace_file(self.root / LATEST, [f"{final.name}\n".encode()], self.disk)
        except OSError as error:
            reason = f"{final} is whole, but {LATEST} could not be moved to it: {error}"
            raise CheckpointFailedError(step, reason) from error
        self._prune(step)
        return Found(final, found.manifest)

    def abandon(self, step: int) -> None:
        """Removes the unfinished checkpoint of ``step``, if there is one.

        What cannot be removed is logged and left for :meth:`clean` at the next start.
        """
        partial = self._open.pop(step, None)
        if partial is not None and partial.exists():
            self._remove(partial, step)

    def clean(self, lock: RunLock) -> tuple[Path, ...]:
        """Removes what a crash left unfinished; the paths, for a warning to the user.

        Only the run that owns the folder may: ``lock`` must be held.

        Raises:
            ValueError: the lock is not held, or belongs to another folder.
            OSError: something cannot be removed.
        """
        if not lock.held or lock.folder != self.root.parent:
            raise ValueError(f"only the run that holds the lock of {self.root.parent} may clean it")
        cleaned = []
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            leftover = leftover_of(path)
            if leftover is None and not is_temporary(path):
                continue
            final = self.root / step_name(leftover[0]) if leftover else None
            if leftover and leftover[1] is Leftover.REPLACED and final and not final.exists():
                # The crash came between taking the old one away and putting the new one there.
                self.disk.rename(path, final)
            else:
                self.disk.remove(path)
            cleaned.append(path)
        return tuple(cleaned)

    # -- reading

    def steps(self) -> tuple[int, ...]:
        """Steps of which there is a checkpoint, whole or damaged, ascending."""
        paths = self.root.iterdir() if self.root.is_dir() else ()
        return tuple(sorted(step for path in paths if (step := step_of(path)) is not None))

    def newest(self) -> Search:
        """Verifies checkpoints from the newest to the first that is whole.

        Raises:
            OSError: the folder itself cannot be listed.
        """
        damages = list(self._latest_damage())
        for step in reversed(self.steps()):
            if self.root / step_name(step) in self._discarded:
                continue
            try:
                return Search(self.load(step), tuple(damages))
            except DamagedError as error:
                self._damaged.add(self.root / step_name(step))
                damages.append(error.damage)
        return Search(None, tuple(damages))

    def load(self, step: int) -> Found:
        """The checkpoint of ``step``, with its manifest and all files verified.

        Raises:
            DamagedError: it does not exist, or names the first thing that is wrong with it.
        """
        folder = self.root / step_name(step)
        if not folder.is_dir() or folder.is_symlink():
            there = ", ".join(map(str, self.steps())) or "none"
            raise DamagedError(Damage(folder, f"is no checkpoint; there are those of: {there}"))
        with _shared(folder):
            manifest = _read_manifest(folder)
            if manifest.step != step:
                problem = f"step: it says {manifest.step}, the folder's name {step}"
                raise DamagedError(Damage(folder / manifests.FILE, problem))
            for layer in manifest.layers:
                check_layer(folder, layer)
        return Found(folder, manifest)

    def distrust_after(self, step: int) -> None:
        """Notes that every checkpoint behind ``step`` is damaged, since the run resumed from it.

        Such ones do not count as kept. :meth:`newest` notes it itself; this is for a store of
        another process.
        """
        self._damaged |= {self.root / step_name(later) for later in self.steps() if later > step}

    def discard_after(self, step: int) -> None:
        """Removes every checkpoint behind ``step``: what is in it may be wrong, though whole.

        One that is just being read, or that the disk keeps, is never found again by this store.
        """
        for later in self.steps():
            if later > step:
                self._discarded.add(self.root / step_name(later))
                self._remove(self.root / step_name(later), later)

    @contextmanager
    def reading(self, found: Found) -> Iterator[None]:
        """Keeps ``found`` from being pruned while it is read.

        Raises:
            DamagedError: it was pruned already.
        """
        with _shared(found.folder):
            yield

    # -- inside

    def _publish(self, partial: Path, step: int) -> Path:
        """Gives the finished folder its final name, in place of a checkpoint of the same step."""
        final = self.root / step_name(step)
        replaced = leftover_path(self.root, step, Leftover.REPLACED)
        taken = os.path.lexists(final)
        with _exclusive(final) as free:
            if not free:
                raise DamagedError(Damage(final, "is being read and cannot be replaced now"))
            if taken:
                self.disk.rename(final, replaced)
            try:
                self.disk.rename(partial, final)
            except OSError:
                if taken:
                    self.disk.rename(replaced, final)
                raise
        self.disk.sync_folder(self.root)
        if taken:
            self._remove(replaced, step)
        return final

    def _prune(self, newest: int) -> None:
        """Removes all but the newest ``keep``; ``newest``, just verified, is one of them.

        Folders found damaged do not count, and folders of later steps (left by a run that was
        resumed from before them because they are damaged) are not touched: they are evidence.
        """
        steps = [step for step in self.steps() if step <= newest]
        whole = [step for step in steps if self.root / step_name(step) not in self._damaged]
        oldest = whole[-self._keep :][0]
        for step in steps:
            path = self.root / step_name(step)
            if step < oldest:
                self._remove(path, step)

    def _remove(self, path: Path, step: int) -> None:
        """Removes a folder, unless it is being read."""
        # Renamed first: a folder that is half deleted must not look like a checkpoint, nor may a
        # late writer find the folder it was told.
        removed = leftover_path(self.root, step, Leftover.REMOVED)
        try:
            with _exclusive(path) as free:
                if not free:
                    return
                self.disk.rename(path, removed)
            self.disk.remove(removed)
        except OSError as error:
            _log.warning("cannot remove %s now (%s); the next start will", path, error)

    def _latest_damage(self) -> Iterator[Damage]:
        path = self.root / LATEST
        if not os.path.lexists(path):
            return
        try:
            name = read_whole(path, 100).decode("ascii", "replace").removesuffix("\n")
        except DamagedError as error:
            yield error.damage
            return
        target = self.root / Path(name).name
        if step_of(Path(name)) is None or target.name != name:
            yield Damage(path, f"does not name a checkpoint: {name[:60]!r}")
        elif not target.is_dir():
            yield Damage(path, f"names {name}, which is not there")


def _read_manifest(folder: Path) -> Manifest:
    path = folder / manifests.FILE
    try:
        return Manifest.from_bytes(read_whole(path, manifests.LONGEST))
    except RecordError as error:
        raise DamagedError(Damage(path, str(error))) from error


@contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """A reader's lock on the checkpoint in ``folder``, held against :func:`_exclusive`."""
    path = folder / manifests.FILE
    gone = DamagedError(Damage(folder, "is being removed or replaced by the run"))
    with opened(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(descriptor), path.stat())
        except (BlockingIOError, FileNotFoundError):
            raise gone from None
        if not same:
            raise gone
        yield


@contextmanager
def _exclusive(folder: Path) -> Iterator[bool]:
    """Whether nobody reads the checkpoint in ``folder``; if so, nobody starts to inside."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(opened(folder / manifests.FILE))
        except DamagedError:
            free = True  # without a manifest nobody can
        else:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except BlockingIOError:
                free = False
        yield free
