"""What `make docs` changes on a finished page, so that it asks for nothing that is not there; mkdocs.yml names this."""

import posixpath
import re
from typing import Any

# The theme's script reads a sitemap beside each of these, and pages of translations have none.
_ALTERNATE = re.compile(r'\s*<link rel="alternate"[^>]*hreflang[^>]*>')
_FROM_ROOT = re.compile(r'href="(/(?:zh/)?)"')


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """Returns the page, with links to the other language that hold wherever the pages are served from."""

    def relative(link: re.Match[str]) -> str:
        return f'href="{posixpath.relpath(link[1], "/" + page.url)}/"'

    return _FROM_ROOT.sub(relative, _ALTERNATE.sub("", output))
