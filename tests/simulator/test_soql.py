"""Queries, read and applied to rows."""

from datetime import UTC, datetime

import pytest

from monitor.simulator.soql import QueryError, parse, select

ROWS = [
    {"name": "a", "size": 1, "made": datetime(2026, 1, 1, tzinfo=UTC), "ended": None},
    {"name": "B", "size": 2, "made": datetime(2026, 1, 2, tzinfo=UTC), "ended": True},
    {"name": "it's", "size": 3, "made": datetime(2026, 1, 3, tzinfo=UTC), "ended": False},
]


def found(rest: str) -> str:
    """The names that a query finds, by their first letters."""
    query = parse(f"SELECT Name FROM Thing {rest}", answers)
    return "".join(str(row["name"])[0] for row in select(query, ROWS))


def answers(inner: object) -> tuple[object, ...]:
    return ("a", "it's")


@pytest.mark.parametrize(
    ("rest", "names"),
    [
        ("", "aBi"),
        ("WHERE Name = 'b'", "B"),
        (r"WHERE Name = 'it\'s'", "i"),
        ("where Size>=2 and Size<3", "B"),
        ("WHERE Size = 1 OR Size = 3", "ai"),
        ("WHERE (Size = 1 OR Size = 3) AND Ended != null", "i"),
        ("WHERE NOT Name LIKE 'it%'", "aB"),
        ("WHERE Size IN (1, 2)", "aB"),
        ("WHERE Name NOT IN (SELECT Name FROM Other WHERE Size = 1)", "B"),
        ("WHERE Ended = null", "a"),
        ("WHERE Ended = false", "i"),
        ("WHERE Ended > true", ""),
        ("WHERE Made > 2026-01-01T12:00:00Z", "Bi"),
        ("WHERE Made <= 2026-01-02T01:00:00+01:00", "aB"),
        ("ORDER BY Size DESC LIMIT 2", "iB"),
        ("ORDER BY Ended ASC NULLS FIRST, Name", "aiB"),
        ("LIMIT 0", ""),
    ],
)
def test_a_query_finds_the_matching_rows(rest: str, names: str) -> None:
    assert found(rest) == names


@pytest.mark.parametrize(
    ("rest", "code", "word"),
    [
        ("WHERE Size = 1 AND Size = 2 OR Size = 3", "MALFORMED_QUERY", "OR"),
        ("WHERE Size = ", "MALFORMED_QUERY", "<EOF>"),
        ("WHERE Size # 1", "MALFORMED_QUERY", "#"),
        ("LIMIT many", "MALFORMED_QUERY", "many"),
        ("LIMIT -1", "MALFORMED_QUERY", "-1"),
        (f"LIMIT {'9' * 5000}", "MALFORMED_QUERY", "9"),
        ("WHERE Made > 2026-13-45T00:00:00Z", "MALFORMED_QUERY", "2026-13-45"),
        ("WHERE Ended LIKE true", "INVALID_QUERY_FILTER_OPERATOR", "boolean"),
        ("ORDER Size", "MALFORMED_QUERY", "ORDER"),
        ("WHERE Made > '2026-01-01'", "INVALID_FIELD", "enclosed in quotes"),
        ("WHERE Size = 'x'", "INVALID_FIELD", "type int"),
    ],
)
def test_an_invalid_query_says_where(rest: str, code: str, word: str) -> None:
    with pytest.raises(QueryError) as caught:
        found(rest)

    assert (caught.value.code, word in caught.value.text) == (code, True)
