"""Private keys and certificates: reads them from their sources, and creates new ones."""


class SourceError(Exception):
    """A source can't be read. The text says where, why, and how to fix it, and contains nothing secret."""
