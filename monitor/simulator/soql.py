"""Parses and runs queries, in the subset of SOQL that audits use.

`SELECT fields FROM object [WHERE conditions] [ORDER BY fields] [LIMIT n]`, with semi-joins; no aggregates,
child subqueries or relative dates (`LAST_N_DAYS`).
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

T = TypeVar("T")

Row = Mapping[str, object]
"""Values by field path (`PermissionSet.Name`) in lower case."""


class QueryError(ValueError):
    """An invalid query, with Salesforce's error code and text."""

    def __init__(self, code: str, text: str, *, word: str = "", query: str = "") -> None:
        super().__init__(text)
        self.code = code
        at = query.find(word) if word else -1
        # Salesforce's format; columns count from 1.
        self.text = text if at < 0 else f"\n{query}\n{' ' * at}^\nERROR at Row:1:Column:{at + 1}\n{text}"


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query."""

    text: str
    fields: tuple[str, ...]
    entity: str
    where: "Condition"
    filtered: frozenset[str]
    order: tuple[tuple[str, bool], ...]
    limit: int | None


Condition = Callable[[Row], bool]


_WORD = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')"
    r"|(?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d))"
    r"|(?P<number>-?\d{1,18})"
    r"|(?P<name>[A-Za-z]\w*(?:\.\w+)*)"
    r"|(?P<sign><=|>=|!=|<>|[=<>(),])"
    r"|(?P<end>\Z)"
    r"|(?P<other>\S+))"
)
_LITERALS: Final = {"true": True, "false": False, "null": None}


def parse(text: str, answers: Callable[[Query], Sequence[object]]) -> Query:
    """Parse a query. `answers` gives the values of a semi-join's query. Raises QueryError."""
    reader = _Reader(text, answers)
    query = reader.query()
    reader.expect("")
    return query


class _Reader:
    def __init__(self, text: str, answers: Callable[[Query], Sequence[object]]) -> None:
        self._text = text
        self._answers = answers
        self._words = [(kind, found[kind]) for found in _WORD.finditer(text) if (kind := found.lastgroup)]
        self._next = 0
        self._filtered: set[str] = set()

    def _unexpected(self, word: str) -> QueryError:
        said = f"unexpected token: '{word or '<EOF>'}'"
        return QueryError("MALFORMED_QUERY", said, word=word, query=self._text)

    def _peek(self) -> str:
        return self._words[self._next][1].lower()

    def take(self, *words: str) -> bool:
        ahead = [word.lower() for _, word in self._words[self._next : self._next + len(words)]]
        if ahead != list(words):
            return False
        self._next += len(words)
        return True

    def expect(self, *words: str) -> None:
        if not self.take(*words):
            raise self._unexpected(self._words[self._next][1])

    def _word(self, kind: str) -> str:
        found, word = self._words[self._next]
        if found != kind:
            raise self._unexpected(word)
        self._next += 1
        return word

    def _name(self) -> str:
        return self._word("name")

    def _list(self, one: Callable[[], T]) -> tuple[T, ...]:
        found = [one()]
        while self.take(","):
            found.append(one())
        return tuple(found)

    def query(self) -> Query:
        outer, self._filtered = self._filtered, set()
        self.expect("select")
        fields = self._list(self._name)
        self.expect("from")
        entity = self._name()
        where: Condition = self._conditions() if self.take("where") else lambda row: True
        order = self._list(self._ordering) if self.take("order", "by") else ()
        limit = int(self._word("number")) if self.take("limit") else None
        if limit and limit < 0:
            raise self._unexpected(str(limit))
        filtered, self._filtered = frozenset(self._filtered), outer
        return Query(self._text, fields, entity, where, filtered, order, limit)

    def _ordering(self) -> tuple[str, bool]:
        field = self._name()
        descending = self.take("desc")
        if not descending:
            self.take("asc")
        if self.take("nulls") and not self.take("first"):
            self.expect("last")
        return field, descending

    def _conditions(self) -> Condition:
        terms = [self._term()]
        joined = self._peek()
        if joined not in {"and", "or"}:
            return terms[0]
        while self.take(joined):
            terms.append(self._term())
        hold = all if joined == "and" else any
        return lambda row: hold(term(row) for term in terms)

    def _term(self) -> Condition:
        if self.take("not"):
            return _not(self._term())
        if self.take("("):
            inner = self._conditions()
            self.expect(")")
            return inner
        field = self._name()
        self._filtered.add(field)
        if self.take("in"):
            return self._among(field)
        if self.take("not", "in"):
            return _not(self._among(field))
        sign = self._peek()
        if sign not in _COMPARED:
            raise self._unexpected(self._words[self._next][1])
        self._next += 1
        wanted = self._literal()
        return lambda row: _fits(field, row[field.lower()], sign, wanted)

    def _among(self, field: str) -> Condition:
        self.expect("(")
        inner = self._peek() == "select"
        wanted = self._answers(self.query()) if inner else self._list(self._literal)
        self.expect(")")
        return lambda row: any(_fits(field, row[field.lower()], "=", one) for one in wanted)

    def _literal(self) -> object:
        kind, word = self._words[self._next]
        self._next += 1
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", word[1:-1])
        if kind == "moment":
            with suppress(ValueError):  # no such day or time
                return datetime.fromisoformat(word)
        if kind == "number":
            return int(word)
        if kind == "name" and word.lower() in _LITERALS:
            return _LITERALS[word.lower()]
        raise self._unexpected(word)


_COMPARED: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "like": lambda value, wanted: _pattern(wanted).fullmatch(value) is not None,
}
_TYPES: Final = ((bool, "boolean"), (int, "int"), (datetime, "dateTime"), (str, "string"))


def _pattern(wanted: str) -> re.Pattern[str]:
    wild = {"%": ".*", "_": "."}
    return re.compile("".join(wild.get(letter, re.escape(letter)) for letter in wanted), re.DOTALL)


def _not(term: Condition) -> Condition:
    return lambda row: not term(row)


def select(query: Query, rows: Iterable[Row]) -> list[Row]:
    """The rows that a query selects, in its order."""
    found = [row for row in rows if query.where(row)]
    for field, descending in reversed(query.order):
        # Nulls come first, or last if descending.
        key = field.lower()
        found.sort(key=lambda row: (row[key] is not None, row[key]), reverse=descending)
    return found[: query.limit]


def _fits(field: str, value: object, sign: str, wanted: object) -> bool:
    if value is None or wanted is None:
        return (value is wanted) is (sign == "=") and sign in {"=", "!=", "<>"}
    kind, name = next(pair for pair in _TYPES if isinstance(value, pair[0]))
    if not isinstance(wanted, kind):
        quoted = " and should not be enclosed in quotes" if isinstance(wanted, str) else ""
        said = f"value of filter criterion for field '{field}' must be of type {name}{quoted}"
        raise QueryError("INVALID_FIELD", said)
    if sign == "like" and kind is not str:
        raise QueryError("INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {name} field")
    if isinstance(value, str) and isinstance(wanted, str):
        value, wanted = value.casefold(), wanted.casefold()
    return _COMPARED[sign](value, wanted)
