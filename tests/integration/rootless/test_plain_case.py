"""A server from a package, as an ordinary user builds it: with the host's own network."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.integration.build import debian_image
from tests.integration.build.mirror import need_package_mirror
from tests.integration.images.corpus import debian_corpus

if TYPE_CHECKING:
    from pathlib import Path

    from tests.accounts import OrdinaryUser
    from tests.integration.rootless.conftest import Session

__all__ = ["debian_corpus"]
pytestmark = [pytest.mark.root, pytest.mark.host_network, pytest.mark.timeout(600)]

DOCKERFILE = """\
FROM localhost/debian
RUN apt-get update
RUN apt-get install --yes apache2
COPY index.html /var/www/html/index.html
CMD ["apachectl", "-D", "FOREGROUND"]
"""
PAGE = "<h1>It builds</h1>\n"
_MOST_SECONDS = 400


def test_packages_are_installed_without_privileges(
    anyone: Session, unprivileged_user: OrdinaryUser, debian_corpus: Path
) -> None:
    need_package_mirror()
    context = unprivileged_user.home / "plain-case"
    context.mkdir(mode=0o755)
    try:
        debian_image.write(debian_corpus, context / "debian.tar")
        anyone.done("load", "-i", str(context / "debian.tar"))
        (context / "debian.tar").unlink()
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "index.html").write_text(PAGE)
        built = unprivileged_user.run(
            unprivileged_user.python, "-m", "tui", "--root", str(anyone.store),
            "build", "--progress", "plain", "--network", "host", "-t", "web", str(context),
            timeout_seconds=_MOST_SECONDS,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        assert "[4/4] COPY" in built.stderr
    finally:
        shutil.rmtree(context)

    looked = anyone.done(
        "run", "--rm", "--network", "host", "web",
        "sh", "-c", "apache2 -v | head -1 && cat /var/www/html/index.html",
    )  # fmt: skip
    assert looked.startswith("Server version: Apache/2")
    assert looked.endswith(PAGE.strip())
