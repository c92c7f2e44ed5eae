"""Reads a page as a browser's parser would: its elements, their text, and what each row says."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "link", "input", "path", "rect", "line", "circle", "br", "img", "use", "wbr"})


@dataclass(slots=True)
class Element:
    """One element with what is in it."""

    tag: str
    attributes: dict[str, str]
    inner: "list[Element | str]" = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text within, its white space made single."""
        return " ".join(
            "".join(part if isinstance(part, str) else part.text + " " for part in self.inner).split()
        )

    def all(self, tag: str | None = None, **attributes: str) -> "list[Element]":
        """The elements within, in the document's order, that are such."""
        found: list[Element] = []
        for part in self.inner:
            if isinstance(part, str):
                continue
            wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
            if (tag is None or part.tag == tag) and wanted.items() <= part.attributes.items():
                found.append(part)
            found += part.all(tag, **attributes)
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inner.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inner.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inner.append(data)


def read(page: str) -> Element:
    """The document. Fails where an element isn't closed by its own end."""
    builder = _Builder()
    builder.feed(page)
    builder.close()
    assert len(builder.open) == 1, f"<{builder.open[-1].tag}> is never closed"
    return builder.open[0]


def names(page: str) -> list[str]:
    """The connections in the rows of the status page."""
    return [
        row.attributes["id"].removeprefix("c-")
        for row in read(page).all("tr", role="row")
        if "id" in row.attributes
    ]
