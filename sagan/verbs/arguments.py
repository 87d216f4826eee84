"""What the words after a verb have in common."""

from sagan.config import ConfigError


def wants_help(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def split_name(arguments: list[str]) -> tuple[str | None, list[str]]:
    """A leading argument that is no option, None where there is none, and the rest."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return None, arguments


def join_values(tokens: list[str], option: str) -> list[str]:
    """The tokens, with all values that follow an option made one."""
    if option not in tokens:
        return tokens
    start = tokens.index(option) + 1
    stop = next((i for i in range(start, len(tokens)) if tokens[i].startswith("--")), len(tokens))
    return [*tokens[:start], *([" ".join(tokens[start:stop])] if stop > start else []), *tokens[stop:]]


def one_run(arguments: list[str]) -> tuple[str, list[str]]:
    """The RUN argument, and the rest."""
    run, tokens = split_name(arguments)
    if run is None:
        raise ConfigError("RUN is missing: a run directory, a checkpoint or exported weights")
    return run, tokens
