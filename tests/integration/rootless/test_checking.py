"""`fsck` where the host could not make everything as the layers have it: that is no damage."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from tests.integration.images.corpus import nasty_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.rootless.conftest import Session

__all__ = ["nasty_corpus"]


def test_devices_owners_and_attributes_that_cannot_be_had_are_no_damage(
    session: Session, nasty_corpus: Path
) -> None:
    archive = session.store / "nasty.tar"
    shutil.copy(nasty_corpus / "oci.tar", archive)
    os.chmod(archive, 0o644)
    loaded = session.lamella("load", str(archive))
    assert loaded.returncode == 0, loaded.stderr
    assert "WARNING: " in loaded.stderr
    checked = session.lamella("fsck")
    assert (checked.stdout.splitlines()[:-1], checked.returncode) == ([], 0), checked.stdout

    session.done(
        "run", "--name", "web", "starter", "sh", "-c", "echo new >/srv-file; rm /etc/group"
    )
    session.done("commit", "web", "mine")
    assert session.done("fsck", "-q") == ""

    (damaged,) = (path for path in session.store.glob("layers/*/diff/srv-file"))
    damaged.unlink()
    checked = session.lamella("fsck")
    assert checked.returncode == 4
    assert "of mine:latest: the layer is damaged: 1 difference\n  srv-file is missing" in (
        checked.stdout
    )
    session.done("rm", "web")
    session.done("rmi", "mine")
    assert session.done("fsck", "-q", "--repair") == ""
