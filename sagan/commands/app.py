"""The `sagan` command: from words to one call of a verb, and from errors to one line on stderr.

Cyclopts does the grammar: verbs, flags, suggestions, help, shell completion. `sagan.config` reads every value, just as
it does from a file or from Python.
"""

import difflib
import inspect
import logging
import os
import re
import shlex
import sys
from dataclasses import is_dataclass
from typing import Any, Literal, get_args

from cyclopts import App, Argument, ArgumentCollection, Group, Parameter, exceptions

from sagan.commands.help import HelpPage
from sagan.commands.options import Typed
from sagan.commands.words import normalize
from sagan.config import Config, ConfigError, Setting, UntrustedCode, UserError, file_settings, flatten, read
from sagan.config.errors import one_line
from sagan.config.reading import no_such_option, option_types
from sagan.config.types import as_text, convert, shown
from sagan.presets import config_file
from sagan.runtime.wording import PrintableFormatter, printable
from sagan.version import __version__

VERBS = ("train", "sample", "evaluate", "attention", "export", "push", "ablate", "bench", "pack")
DISTRIBUTED_VERBS = ("train", "evaluate")
HELP = ("--help", "-h", "--help-all")
Shell = Literal["bash", "zsh"]
ZSH_REGISTRATION = """
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _cyclopts_sagan sagan"""
BASH_REGISTRATION = """
complete -o bashdefault -o default -F _sagan sagan"""
ABOUT = """Self-Attention GAN: train it, sample from it, score it, see where it attends.

A switch is turned on by --x or --x true, and off by --no-x or --x false. Lists are written [8,16] or 8,16.
If an option is given twice, the last value counts.
`sagan VERB --help` explains a verb. `sagan --completion bash` (or zsh) prints a
script for the shell to read: eval "$(sagan --completion bash)".

The exit code is 0, or 1 if a file, device or network fails, 2 if an option is wrong, 3 if training diverged, and 130 if
it was interrupted. A run that is stopped by Ctrl-C or SIGTERM and saved exits with 0."""

# Words are stored unchanged, for `sagan.config` to read. A later `--x` overrides an earlier one.
AS_TYPED = Parameter(
    converter=lambda hint, tokens: tokens if isinstance(tokens, dict) else tokens[-1].value,
    n_tokens=1,
    negative=(),
    allow_repeating=True,
    json_dict=False,
    json_list=False,
    name_transform=lambda name: name,
    show_default=as_text,
)


def main(arguments: list[str] | None = None) -> int:
    """Run a verb. Return 0, or 1 if a file, device or network fails, 2 if an option is wrong, 3 if training diverged,
    or 130 if it was interrupted."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    name = " ".join(["sagan", *(w for w in words[:1] if w in VERBS)])
    given = Typed()
    if logging.lastResort:  # warnings quote names from files as well
        logging.lastResort.setFormatter(PrintableFormatter())
    try:
        run(normalize(words), given)
        sys.stdout.flush()
    except BrokenPipeError:  # from `sagan ... | head`; without this, Python would complain again on exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except exceptions.CycloptsError as error:
        print(printable(f"{name}: error: {explain(error)}"), file=sys.stderr)
        return ConfigError.exit_code
    except UntrustedCode as error:
        print(printable(f"{name}: error: {error.what}; {how_to_trust(error, words, given)}"), file=sys.stderr)
        return error.exit_code
    except (ConfigError, UserError) as error:
        print(printable(f"{name}: error: {error}"), file=sys.stderr)
        return error.exit_code
    except OSError as error:  # such as a name that the file system refuses, or a folder without permission
        print(printable(f"{name}: error: {shown(error.filename or '')}: {error.strerror or error}"), file=sys.stderr)
        return UserError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not (reason := out_of_memory(error)):
            raise
        print(printable(f"{name}: error: {reason}"), file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    return 0


def run(words: list[str], given: Typed) -> None:
    """Parse the words and call the verb. Raise CycloptsError or ConfigError if they are wrong."""
    page = HelpPage(everything="--help-all" in words)
    app = build_app(page, given)
    if words[:1] == ["--completion"]:
        shell = convert(Shell, (words[1:] or [""])[0], "--completion")
        return print(completion(app, shell))
    if not words or not set(HELP).isdisjoint(words):
        prepare(page, app, words)
    verb, bound, ignored = app.parse_args(words, exit_on_error=False, print_error=False)
    processes = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if processes > 1 and words[0] not in DISTRIBUTED_VERBS:
        raise ConfigError(
            f"{words[0]}: uses one process, but torchrun has started {processes}; start it without torchrun"
        )
    complete(bound, ignored, given)
    verb(*bound.args, **bound.kwargs)


def build_app(page: HelpPage, given: Typed) -> App:
    """Return the grammar of the command. Parsing adds the settings that the words give to `given`."""

    def add_settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        given.settings += [s for a in arguments if a.name.startswith("--") for s in settings_of(a)]

    app = App(
        "sagan",
        help=ABOUT,
        help_flags=HELP,
        help_format="plaintext",
        help_formatter=page,
        version=__version__,
        config=add_settings,
        default_parameter=AS_TYPED,
        group_commands=Group("verbs", sort_key=0),
        group_arguments=Group("arguments", sort_key=0),
        group_parameters=Group("options", sort_key=1),
    )
    for position, verb in enumerate(VERBS):
        app.command(f"sagan.commands.{verb}:{verb}", name=verb, sort_key=position)
    return app


def complete(bound: inspect.BoundArguments, ignored: dict[str, Any], given: Typed) -> None:
    """Add what Cyclopts leaves to this program to the arguments of a verb: its options as dataclasses, and `given`."""
    parameters = bound.signature.parameters
    classes = {name: next(iter(get_args(p.annotation)), None) for name, p in parameters.items()}
    sections = {name: cls for name, cls in classes.items() if isinstance(cls, type) and is_dataclass(cls)}
    given.own |= {option for cls in sections.values() for option in option_types(cls)}
    for name in parameters:
        if name in ignored:
            bound.arguments[name] = given
        elif name in sections:
            bound.arguments[name] = read(sections[name], given.of(sections[name]))


def completion(app: App, shell: Shell) -> str:
    """Return the script with which a shell completes commands."""
    # zsh obeys the script's first line, `#compdef sagan`, only in a file of its $fpath, not in text that it evaluates.
    # bash would complete no file names any more.
    return app.generate_completion(shell=shell) + (ZSH_REGISTRATION if shell == "zsh" else BASH_REGISTRATION)


def settings_of(argument: Argument) -> list[Setting]:
    """Return the settings that the words after an option give to it, or to entries of a mapping."""
    key, tokens = argument.name.removeprefix("--"), argument.tokens
    if argument.parameter.consume_multiple and tokens:
        return [Setting(key, [token.value for token in tokens], "--")]
    names = [".".join([key, *token.keys]).replace("-", "_") for token in tokens]
    values = [t.implicit_value if isinstance(t.implicit_value, bool) else t.value for t in tokens]
    return [Setting(name, value, "--") for name, value in zip(names, values, strict=True)]


def prepare(page: HelpPage, app: App, words: list[str]) -> None:
    """Tell a help page about the options of its verb, with the values of the preset if one is named."""
    if words and words[0] in VERBS:
        found = app[words[0]].assemble_argument_collection(default_parameter=AS_TYPED)
        # `bench --data` is a switch, but `data` is also the name of a section.
        page.arguments = {a.name: a for a in found if not is_dataclass(a.field_info.annotation)}
        if "PRESET" in page.arguments and len(words) > 1 and not words[1].startswith("-"):
            page.values = dict(flatten(read(Config, file_settings(config_file(words[1])))))
    else:
        for verb in VERBS:  # the list shows the first line of each, which only its module knows
            app[verb]


def how_to_trust(error: UntrustedCode, words: list[str], given: Typed) -> str:
    """Return the advice to run the command of `words` so that it trusts the modules that a file names."""
    from sagan.training.messages import launcher

    modules = [*(setting.value for setting in given.starting("trust_module")), *error.modules]
    return f"if you trust that code, run: {shlex.join([*launcher(), *words, '--trust_module', ','.join(modules)])}"


def out_of_memory(error: Exception) -> str:
    """Return one line about an error that says that memory is short, and nothing about any other error."""
    text = one_line(error)
    short = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: " in text  # torch may not be loaded
    if not (short or isinstance(error, MemoryError)):
        return ""
    asked = re.search(r"[Tt]ried to allocate [\d.]+ \w+", text)
    return (
        f"out of memory{f': {asked[0]}' if asked else ''}; use fewer images at a time (training.batch_size, batch_size "
        "or num), or split the batch of training (training.micro_batches)"
    )


def explain(error: exceptions.CycloptsError) -> str:
    """Return one line that says what is wrong with the words of a command line."""
    argument, unused = error.argument, (error.unused_tokens or [""])[0]
    if isinstance(error, exceptions.UnknownCommandError):
        near = difflib.get_close_matches(unused, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(VERBS)}"
        return f"{unused}: there is no such verb; {hint}"
    if isinstance(error, exceptions.UnknownOptionError):
        unused = (error.token.keyword or error.token.value).partition("=")[0]
        if unused.startswith("--"):
            known = [a.name.removeprefix("--") for a in error.argument_collection]
            return f"{unused}: {no_such_option(unused.removeprefix('--'), known)}"
    if isinstance(error, (exceptions.UnknownOptionError, exceptions.UnusedCliTokensError)):
        return f"{unused}: expected an option, --key value (a name or a path comes first)"
    if isinstance(error, (exceptions.MissingArgumentError, exceptions.ConsumeMultipleError)) and argument:
        missing = f"{argument.name} is missing: {argument.parameter.help}"
        return f"{argument.name}: expected a value after it" if argument.index is None else missing
    if isinstance(error, exceptions.CoercionError) and argument and error.token:
        try:
            convert(argument.field_info.annotation, error.token.value, argument.name)
        except ConfigError as reason:
            return str(reason)
    error.verbose = False
    return one_line(error)
