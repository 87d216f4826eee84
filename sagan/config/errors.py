"""The errors that end a command in one line."""


class ConfigError(ValueError):
    """An option is unknown, out of range, or contradicts another; the message names it and its value."""

    exit_code = 2
    """Exit code of the command that it ends."""


class UserError(RuntimeError):
    """Something outside the configuration stops the work: a missing file, a full disk, unreadable data."""

    exit_code = 1
    """Exit code of the command that it ends."""


class UntrustedCode(UserError):
    """A file names a module that is not part of this program, and the user has not allowed it to run."""

    def __init__(self, what: str, modules: list[str]):
        super().__init__(f"{what}; if you trust that code, give trust_module={modules!r}, or import it first")
        self.what = what
        self.modules = modules

    def __reduce__(self) -> tuple:
        return type(self), (self.what, self.modules)  # for other processes


class DamagedError(UserError):
    """A file of a run does not contain what a run writes there; the message names the file."""


def one_line(value: object) -> str:
    """Return the text of a value, such as an error, as one line."""
    return " ".join(str(value).split())
