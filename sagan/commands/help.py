"""Help pages: plain text for 80 columns and more, with choices, ranges and defaults."""

import itertools
import textwrap
from dataclasses import dataclass, field
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from sagan.commands.options import OPTIONS_OF_TRAIN
from sagan.config.types import as_text, choices, members, range_in_words

if TYPE_CHECKING:
    from cyclopts import Argument
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

INDENT = " " * 24  # before an explanation
WIDEST = 100
UNBROKEN = "\N{NO-BREAK SPACE}"
PLACEHOLDERS = {int: "N", float: "X", str: "TEXT", dict: "{key: value,...}"}


@dataclass
class HelpPage:
    """Formats the parts of a help page for cyclopts, which calls it once for each."""

    everything: bool = False
    """Whether to list the options that a verb shares with `sagan train`."""
    arguments: dict[str, "Argument"] = field(default_factory=dict)
    """Arguments and options of the verb, by name."""
    values: dict[str, Any] = field(default_factory=dict)
    """What a preset sets, by option."""

    def render_usage(self, console: "Console", options: "ConsoleOptions", usage: Any) -> None:
        """Print the usage."""
        names = [n if a.required else f"[{n}]" for n, a in self.arguments.items() if a.index is not None]
        words = " ".join([*str(usage).split()[: 2 if self.arguments else 1], *(names if self.arguments else ["VERB"])])
        print(f"usage: {words} [--option value ...]", end="\n\n")

    def render_description(self, console: "Console", options: "ConsoleOptions", description: Any) -> None:
        """Print what a verb does."""
        text = unwrapped(description, console)
        for paragraph in text.strip().split("\n\n"):
            plain = not any(line.startswith(" ") for line in paragraph.splitlines())
            print(textwrap.fill(paragraph, min(console.width, WIDEST)) if plain else paragraph, end="\n\n")

    def __call__(self, console: "Console", options: "ConsoleOptions", panel: "HelpPanel") -> None:
        """Print a group of options, or of verbs."""
        if not panel.entries:
            return
        print(f"{panel.title}:")
        if panel.title == OPTIONS_OF_TRAIN and not self.everything:
            print("  All of them apply here as well; --help-all lists them.\n")
            return
        many = len(panel.entries) > 30
        for _, section in itertools.groupby(panel.entries, lambda entry: many and label(entry).rpartition(".")[0][:12]):
            print(*(self.lines(entry, console) for entry in section), sep="\n", end="\n\n")

    def lines(self, entry: "HelpEntry", console: "Console") -> str:
        """Return what the page says about one option."""
        name, bounds, default = label(entry), "", entry.default
        head = f"  {name}"
        if name.startswith("--") and name in self.arguments:
            kind, option = self.arguments[name].field_info.annotation, name.removeprefix("--")
            head, bounds = f"{head} {placeholder(kind)}", range_in_words(kind)
            default = as_text(self.values[option]) if option in self.values else default
        words = unwrapped(entry.description, console).split()
        notes = [f"[{bounds}]" if bounds else "", f"(default: {default})" if default and head != f"  {name}" else ""]
        text = " ".join(filter(None, [*words, *(note.replace(" ", UNBROKEN) for note in notes)]))
        lines = textwrap.fill(text, min(console.width, WIDEST), initial_indent=INDENT, subsequent_indent=INDENT,
                              break_on_hyphens=False)  # fmt: skip
        lines = lines.replace(UNBROKEN, " ")
        return head.ljust(len(INDENT)) + lines[len(INDENT) :] if len(head) < len(INDENT) - 1 else f"{head}\n{lines}"


def label(entry: "HelpEntry") -> str:
    """Return the name of an option, an argument or a verb."""
    return next(iter((*entry.positive_names, *entry.positive_shorts)), None) or entry.positional_label or ""


def unwrapped(description: Any, console: "Console") -> str:
    """Return a description with the line breaks that its author made, and no others."""
    return "".join(segment.text for segment in console.render(description, console.options.update(width=10_000)))


def placeholder(kind: Any) -> str:
    """Return what stands for a value of a type: N, {true,false}, [N,...]."""
    if get_origin(kind) is Annotated:
        return placeholder(get_args(kind)[0])
    if listed := choices(kind):
        return f"{{{','.join(listed)}}}"
    if get_origin(kind) is list:
        return f"[{placeholder(get_args(kind)[0])},...]"
    if len(members(kind)) > 1:
        return "|".join(placeholder(member) for member in members(kind) if member is not NoneType)
    return PLACEHOLDERS[get_origin(kind) or kind]
