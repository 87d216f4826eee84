"""Help pages: plain text for 80 columns or more, with choices, ranges and defaults."""

import itertools
import textwrap
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from sagan.commands.options import TRAIN_GROUP
from sagan.config.types import as_text, range_in_words

if TYPE_CHECKING:
    from cyclopts import Argument
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

INDENT = " " * 24  # before an explanation
WIDEST = 100
UNBROKEN = "\N{NO-BREAK SPACE}"
PLACEHOLDERS = {int: "N", float: "X", str: "TEXT", bool: "{true,false}", dict: "{key: value,...}"}


@dataclass
class HelpPage:
    """A formatter for the parts of a help page. Cyclopts calls it once for each."""

    everything: bool = False
    """Whether to list the options that a verb shares with `sagan train`."""
    arguments: dict[str, "Argument"] = field(default_factory=dict)
    """Arguments and options of the verb, by name."""
    values: dict[str, Any] = field(default_factory=dict)
    """What a preset sets, by option."""

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Print the usage."""
        names = [n if a.required else f"[{n}]" for n, a in self.arguments.items() if a.index is not None]
        words = [*str(usage).split()[:2], *names] if self.arguments else ["sagan", "VERB"]
        print(f"usage: {' '.join(words)} [--option value ...]", end="\n\n")

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:
        """Print the description of a verb, leaving indented lines unchanged."""
        for paragraph in unwrapped(description, console).strip().split("\n\n"):
            print(paragraph if "\n  " in paragraph else filled(paragraph, console), end="\n\n")

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print a group of options, or of verbs."""
        if not panel.entries:
            return
        print(f"{panel.title}:")
        if panel.title == TRAIN_GROUP.name and not self.everything:
            return print("  All of them apply here as well; --help-all lists them.", end="\n\n")
        long = len(panel.entries) > 30  # long lists are divided into sections
        for _, section in itertools.groupby(panel.entries, lambda entry: long and label(entry).rpartition(".")[0][:12]):
            print(*(self.lines(entry, console) for entry in section), sep="\n", end="\n\n")

    def lines(self, entry: "HelpEntry", console: "Console") -> str:
        """Return the page's lines about an option, an argument or a verb."""
        head, notes = f"  {label(entry)}", []
        if argument := self.arguments.get(label(entry)) if entry.positive_names else None:
            kind, key = argument.field_info.annotation, label(entry).removeprefix("--")
            default = as_text(self.values[key]) if key in self.values else entry.default
            head = f"{head} {placeholder(kind)}"
            bounds = "" if "{" in head else range_in_words(kind)  # the placeholder has the choices
            notes = [f"[{bounds}]" if bounds else "", default and f"(default: {default})"]
        if len(head) > min(console.width, WIDEST):
            head = f"  {filled(head.replace(',', ', ').strip(), console, ' ' * 4).strip()}"
        notes = [note.replace(" ", UNBROKEN) if len(note) < len(INDENT) * 2 else note for note in notes if note]
        text = filled(" ".join([*unwrapped(entry.description, console).split(), *notes]), console, INDENT)
        text = text.replace(UNBROKEN, " ")
        return head.ljust(len(INDENT)) + text[len(INDENT) :] if len(head) < len(INDENT) - 1 else f"{head}\n{text}"


def label(entry: "HelpEntry") -> str:
    """Return the name of an option, an argument or a verb."""
    return next(iter((*entry.positive_names, *entry.positive_shorts)), None) or entry.positional_label or ""


def unwrapped(description: Any, console: "Console") -> str:
    """Return a description with its author's line breaks and no others."""
    return "".join(segment.text for segment in console.render(description, console.options.update(width=10_000)))


def filled(text: str, console: "Console", indent: str = "") -> str:
    """Return text in lines that fit the console."""
    width = min(console.width, WIDEST)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def placeholder(kind: Any) -> str:
    """Return the placeholder for a value of a type, such as N, {true,false} or [N,...]."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return placeholder(arguments[0])
    if origin is Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    if origin is list:
        return f"[{placeholder(arguments[0])},...]"
    if origin in (Union, UnionType):
        return "|".join(placeholder(member) for member in arguments if member is not NoneType)
    return PLACEHOLDERS[origin or kind]
