"""Links from the documents to files beside docs/ work in the repository; the site names the file instead."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)", _named, markdown)


def _named(link: re.Match[str]) -> str:
    text, path = link.groups()
    return text if text.strip("`") == path else f"{text} (`{path}` in the repository)"
