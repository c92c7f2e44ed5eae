"""A secret: a value that can be handed on, yet not be printed, logged, pickled or looked into by mistake.

What holds one shows that there is something, never what. Its content leaves in two ways only, both of which
are easily searched for: `reveal` and `text`.
"""

import hashlib
from contextlib import suppress
from hmac import compare_digest
from typing import NoReturn

SHOWN = "<secret>"
"""What stands in the place of every secret: in a repr, a message, a log line, a formatted text."""


class Secret:
    """Key material, a password, a token, or an address that holds one.

    Two are equal if their contents are, in a time that says nothing of them; a secret never equals its bare
    content. So settings that hold one can be compared, and a changed secret is noticed. A copy is the
    secret itself. Pickling is refused: what is pickled lies in the clear wherever it goes.
    """

    __slots__ = ("__content",)

    def __init__(self, content: bytes | str) -> None:
        self.__content = content.encode(errors="surrogateescape") if isinstance(content, str) else content

    def reveal(self) -> bytes:
        """The content, as it was given; a text in UTF-8."""
        return self.__content

    def text(self) -> str:
        """The content as text, without the line break with which files end. ValueError where it is none."""
        with suppress(UnicodeDecodeError):
            return self.__content.decode().rstrip("\r\n")
        raise ValueError("is not UTF-8 text")  # not within the other error, which carries the content

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
        raise TypeError("A secret is not pickled: it would lie in the clear.")

    def _digest(self) -> bytes:
        return hashlib.sha256(self.__content).digest()
