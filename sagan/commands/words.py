"""Conversion of the words that a person types into those that the command-line library reads.

The library takes `--key value`, `--key=value`, hyphens for underscores, and bare flags. This step adds, for every
option:

    sagan help VERB ...     becomes  sagan VERB ... --help
    --x true, --x null      become   --x=true, --x=null   (a flag of the library takes no value after a space)
    --no-x, --a.no-x        become   --x=false, --a.x=false
    --no-a.x                becomes  --a.x=false
"""

import re

NEGATIVE = re.compile(r"--((?:\w+\.)*)no[-_]([\w.-]+)")
VALUES = ("true", "false", "null")


def normalize(words: list[str]) -> list[str]:
    """Return the words of a command line in the forms that the library reads."""
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    found: list[str] = []
    for word in words:
        if word.lower() in VALUES and found and found[-1].startswith("--") and "=" not in found[-1]:
            found[-1] = f"{found[-1]}={word}"
        else:
            found.append(NEGATIVE.sub(r"--\1\2=false", word) if NEGATIVE.fullmatch(word) else word)
    return found
