"""The builds that the pictures show: a small shop of three stages, on the starter image."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from engine.types import BuildRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.api import EngineApi

NAME = "shop:1.4"
_PAGES = 24
_DOCKERFILE = """\
FROM starter AS assets
COPY pages /pages
RUN mkdir /site && for page in /pages/*; do \\
    echo "minify $page"; cp "$page" /site; done

FROM starter AS catalog
WORKDIR /catalog
RUN dd if=/dev/zero of=goods.db bs=1M count={catalog_megabytes} 2>/dev/null \\
    && echo "catalog of 3,120 goods"
{slow}
FROM starter
ENV SHOP_MODE {mode}
WORKDIR /srv/shop
COPY --from=assets /site pages
COPY --from=catalog /catalog/goods.db .
COPY shop.sh .
RUN chmod +x shop.sh && {check}
CMD ["./shop.sh"]
"""
_SLOW = """\
RUN for n in 1 2 3 4 5 6 7; do echo "index part $n of 9"; done \\
    && printf '71 %%\\r78 %%' && sleep 60
"""
_STAGES = """\
FROM starter AS base
RUN mkdir -p /srv/common && echo "common files"

FROM base AS pages
COPY pages /pages
RUN mkdir /site && cp /pages/* /site

FROM base AS pictures
RUN mkdir /pictures && dd if=/dev/zero of=/pictures/all.pack bs=1M count=4 2>/dev/null
RUN sleep 0.6 && sha256sum /pictures/* > /pictures/sums

FROM base AS search
COPY --from=pages /site /site
RUN sleep 0.4 && grep -c goods /site/* > /index

FROM base AS checks
COPY shop.sh /checks/
RUN sh /checks/shop.sh > /checks/report

FROM base
COPY --from=pages /site /srv/shop/pages
COPY --from=pictures /pictures/sums /srv/shop/
COPY --from=search /index /srv/shop/
COPY --from=checks /checks/report /srv/shop/
RUN du -s /srv/shop
"""


def make_context(directory: Path) -> None:
    """Make the files of the shop, and some Dockerfiles for it."""
    (directory / "pages").mkdir(parents=True)
    for number in range(1, _PAGES + 1):
        (directory / "pages" / f"page-{number:02}.html").write_text("<p>goods</p>\n" * number)
    (directory / "shop.sh").write_text("#!/bin/sh\necho open\n")
    whole = _DOCKERFILE.format(catalog_megabytes=3, slow="", mode="open", check="./shop.sh")
    (directory / "Dockerfile").write_text(whole)
    slow = _DOCKERFILE.format(catalog_megabytes=5, slow=_SLOW, mode="open", check="./shop.sh")
    (directory / "slow.dockerfile").write_text(slow)
    (directory / "stages.dockerfile").write_text(_STAGES)
    check = 'echo "checking the shop" && ./shop.sh && test -s /srv/shop/prices'
    failing = _DOCKERFILE.format(catalog_megabytes=3, slow="", mode="open", check=check)
    (directory / "failing.dockerfile").write_text(failing)


async def build_before(engine: EngineApi, directory: Path) -> None:
    """Build the shop once, so that there is something to compare with."""
    await engine.build_image(BuildRequest(context=directory, names=(NAME,)))


@contextlib.contextmanager
def inside(directory: Path) -> Iterator[None]:
    """Stand in a directory, where the form begins."""
    before = os.getcwd()
    os.chdir(directory)
    try:
        yield
    finally:
        os.chdir(before)
