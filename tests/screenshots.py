"""Takes the README's screenshots of both pages, from the demo at the end of its timeline.

Run `make screenshots` when the pages change.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.end_to_end.processes import Running, told_demo, until

PAGES = {"status": ("/", 860), "connection": ("/connections/approval-decayed", 1120)}
"""Path and height in pixels: what is seen first, down to the end of something."""

WIDTH = 1280
SCHEMES = ("light", "dark")


def told(demo: Running) -> str:
    """The demo's JSON; empty without an answer."""
    answer = demo.page("/api/status")
    return answer.text if answer else ""


def take(into: Path) -> None:
    """Write one picture for each page and colour scheme."""
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, told_demo(Path(folder)) as demo, sync_playwright() as tool:
        until(lambda: "propagation-pending" in told(demo), "the last connection")
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme in SCHEMES:
            for name, (path, height) in PAGES.items():
                page = browser.new_page(
                    viewport={"width": WIDTH, "height": height},
                    color_scheme="dark" if scheme == "dark" else "light",
                )
                page.goto(demo.url + path)
                page.evaluate("document.fonts.ready")
                page.screenshot(path=into / f"{name}-{scheme}.png")
                page.close()
        browser.close()


if __name__ == "__main__":
    take(Path(sys.argv[1]))
