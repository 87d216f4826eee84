"""Words for numbers, and text that a terminal can be trusted with."""

import logging

JOINERS = "\u200c\u200d"  # they control nothing, and some scripts and emoji need them


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun: "1 process", "2,000 processes". The plural is noun + "s" unless it is given."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def printable(text: str, keep: str = "\n\t") -> str:
    """Return text with characters that could control a terminal escaped, as in \\x1b, except those of `keep`.

    Names of files, classes and options may come from strangers, and a terminal obeys control characters in them.
    """
    known = keep + JOINERS
    return "".join(c if c.isprintable() or c in known else c.encode("unicode_escape").decode() for c in text)


class PrintableFormatter(logging.Formatter):
    """A log format without control characters, one line per message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as one line, with control characters escaped."""
        return printable(super().format(record), keep="")
