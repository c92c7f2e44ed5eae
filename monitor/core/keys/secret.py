"""A secret value that can't be printed, logged, pickled or inspected by mistake."""

import hashlib
from contextlib import suppress
from hmac import compare_digest
from typing import NoReturn

SHOWN = "<secret>"
"""Shown instead of any secret, in a repr, message or log line."""


class Secret:
    """Key material, a password, a token, or a URL that contains one.

    Secrets are equal if their contents are, compared in constant time, so that changed settings are noticed.
    A secret never equals its bare content. Copying gives the same object. Pickling is refused, as it would
    write the content in clear text.
    """

    __slots__ = ("__content",)

    def __init__(self, content: bytes | str) -> None:
        self.__content = content.encode(errors="surrogateescape") if isinstance(content, str) else content

    def reveal(self) -> bytes:
        """The content as given; text is encoded as UTF-8."""
        return self.__content

    def text(self) -> str:
        """The content as text, without a final line break. Raises ValueError if it isn't UTF-8."""
        with suppress(UnicodeDecodeError):
            return self.__content.decode().rstrip("\r\n")
        raise ValueError("is not UTF-8 text")  # unchained: UnicodeDecodeError contains the content

    def __bool__(self) -> bool:
        return bool(self.__content)

    def __repr__(self) -> str:
        return SHOWN

    __str__ = __repr__

    def __format__(self, specification: str) -> str:
        return format(SHOWN, specification)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return compare_digest(self._digest(), other._digest())

    def __hash__(self) -> int:
        return hash(self._digest())

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("Secrets cannot be pickled: they would be stored in plain text.")

    def _digest(self) -> bytes:
        return hashlib.sha256(self.__content).digest()
