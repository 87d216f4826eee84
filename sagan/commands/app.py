"""The `sagan` command: from words to one call of a verb, and from errors to one line on stderr.

Cyclopts does the grammar: verbs, flags, suggestions, help, shell completion. Every value is read by `sagan.config`, as
it is from a file or from Python.
"""

import inspect
import sys
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin

from cyclopts import App, Argument, ArgumentCollection, Group, Parameter
from cyclopts.exceptions import (
    CoercionError,
    ConsumeMultipleError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from sagan.commands.help import HelpPage
from sagan.commands.options import Flat, Typed
from sagan.commands.words import normalise
from sagan.config import Config, ConfigError, Setting, UserError, file_settings, flatten, read
from sagan.config.reading import no_such_option
from sagan.config.types import as_text, convert
from sagan.presets import config_file
from sagan.version import __version__

VERBS = ("train", "sample", "evaluate", "attention", "export", "ablate", "bench", "pack")
EXPECTED_OPTION = "expected an option, --key value (a name or a path comes first)"
HELP = ("--help", "-h", "--help-all")

# The library stores each word as it is; `sagan.config` reads it. A later `--x` overrides an earlier one.
AS_TYPED = Parameter(
    converter=lambda hint, tokens: tokens,
    n_tokens=1,
    allow_repeating=True,
    json_dict=False,
    json_list=False,
    negative=(),
    name_transform=lambda name: name,
    show_default=as_text,
)


def main(arguments: list[str] | None = None) -> int:
    """Run a verb. Return 0, or 1 if something outside stops the work, 2 if an option is wrong, 3 if training diverged,
    130 if it was interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = " ".join(["sagan", *(w for w in words[:1] if w in VERBS)])
    try:
        run(normalise(words), Typed(words[1:]))
    except CycloptsError as error:
        print(f"{name}: error: {explain(error)}", file=sys.stderr)
        return ConfigError.exit_code
    except (ConfigError, UserError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0


def run(words: list[str], typed: Typed) -> None:
    """Parse the words and call the verb. Raise CycloptsError for words without sense, ConfigError for wrong values."""
    page = HelpPage(everything="--help-all" in words)
    app = make_app(typed, page)
    if wants_help(words):
        prepare(page, app, words)
    verb, bound, ignored = app.parse_args(words, exit_on_error=False, print_error=False)
    if not inspect.ismethod(verb):  # the library's own methods show help and version
        for name, parameter in inspect.signature(verb).parameters.items():
            if name in ignored:
                bound.arguments[name] = typed
            elif is_dataclass(bare(parameter.annotation)):
                bound.arguments[name] = read_options(name, parameter.annotation, typed)
            elif name in bound.arguments:
                bound.arguments[name] = read_argument(parameter, bound.arguments[name])
    verb(*bound.args, **bound.kwargs)


def make_app(typed: Typed, page: HelpPage) -> App:
    """Return the command line; parsing notes in `typed` which options were given."""

    def note_settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        for argument in arguments:
            if argument.name.startswith("--"):
                typed.settings += argument_settings(argument)

    app = App(
        name="sagan",
        help=ABOUT,
        help_flags=HELP,
        version=__version__,
        help_format="plaintext",
        help_formatter=page,
        config=note_settings,
        default_parameter=AS_TYPED,
        group_commands=Group("verbs", sort_key=0),
        group_arguments=Group("arguments", sort_key=0),
        group_parameters=Group("options", sort_key=1),
    )
    for position, verb in enumerate(VERBS):
        app.command(f"sagan.commands.{verb}:{verb}", name=verb, sort_key=position)
    return app


def argument_settings(argument: Argument) -> list[Setting]:
    """Return the settings of an option, or of entries of a mapping, from the words after it."""
    key, tokens = argument.name.removeprefix("--"), argument.tokens
    if argument.parameter.consume_multiple and tokens:
        return [Setting(key, [token.value for token in tokens], "--")]
    names = [".".join([key, *token.keys]).replace("-", "_") for token in tokens]
    values = [t.implicit_value if isinstance(t.implicit_value, bool) else t.value for t in tokens]
    return [Setting(name, value, "--") for name, value in zip(names, values, strict=True)]


def wants_help(words: list[str]) -> bool:
    """Return whether a help page is asked for."""
    return not words or any(word in HELP for word in words)


def prepare(page: HelpPage, app: App, words: list[str]) -> None:
    """Tell a help page about the options of its verb, with the values of a preset that is named."""
    if words and words[0] in VERBS:
        page.arguments = {a.name: a for a in app[words[0]].assemble_argument_collection(default_parameter=AS_TYPED)}
        if "PRESET" in page.arguments and len(words) > 1 and not words[1].startswith("-"):
            page.values = dict(flatten(read(Config, file_settings(config_file(words[1])))))
    else:
        for verb in VERBS:  # the list has the first line of each, which only its module knows
            app[verb]


def read_options(name: str, annotation: Any, typed: Typed) -> Any:
    """Return a dataclass parameter of a verb: defaults, and what was given."""
    prefix = "" if Flat in get_args(annotation) else f"{name}."
    return read(bare(annotation), typed.of(bare(annotation), prefix))


def read_argument(parameter: inspect.Parameter, value: Any) -> Any:
    """Return a simple parameter of a verb: a flag, or words to read."""
    positional = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    text = value if isinstance(value, bool) else value[-1].value
    return convert(parameter.annotation, text, parameter.name.upper() if positional else f"--{parameter.name}")


def bare(annotation: Any) -> Any:
    """Return a type without what it is annotated with."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def explain(error: CycloptsError) -> str:
    """Return in one line what is wrong with the words of a command line."""
    if isinstance(error, UnknownCommandError):
        return unknown_verb((error.unused_tokens or [""])[0])
    if isinstance(error, UnknownOptionError):
        word = (error.token.keyword or error.token.value).partition("=")[0]
        if not word.startswith("--"):
            return f"{word}: {EXPECTED_OPTION}"
        return f"{word}: {no_such_option(word.lstrip('-'), [a.name.lstrip('-') for a in error.argument_collection])}"
    if isinstance(error, UnusedCliTokensError):
        return f"{(error.unused_tokens or [''])[0]}: {EXPECTED_OPTION}"
    argument = error.argument
    if isinstance(error, (MissingArgumentError, ConsumeMultipleError)) and argument:
        if argument.index is None:
            return f"{argument.name}: expected a value after it"
        return f"{argument.name} is missing: {argument.parameter.help}"
    if isinstance(error, CoercionError) and argument and error.token:
        try:
            convert(argument.field_info.annotation, error.token.value, argument.name)
        except ConfigError as reason:
            return str(reason)
    error.verbose = False
    return " ".join(str(error).split())


def unknown_verb(word: str) -> str:
    """Return the words for a verb that does not exist."""
    import difflib

    near = difflib.get_close_matches(word, VERBS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(VERBS)}"
    return f"{word}: there is no such verb; {hint}"


ABOUT = """Self-Attention GAN: train, sample, evaluate and look into the attention.

A switch is turned on by --x or --x true, and off by --no-x or --x false. Lists are written [8,16] or 8,16.
`sagan VERB --help` explains a verb."""
