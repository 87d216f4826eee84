"""Words for numbers."""


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return the number with its noun: "1 process", "2 processes". The plural is noun + "s" unless it is given."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
