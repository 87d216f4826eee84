"""Every option of every verb may be typed in every form, with the same meaning."""

from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

import pytest
from cyclopts import App

from sagan.commands import app
from sagan.commands.options import Typed
from sagan.commands.words import normalize
from sagan.config import ConfigError
from sagan.config.types import convert


def options_of(verb):
    """Return the type of every option of a verb, by the name that is typed."""
    root = App("sagan", default_parameter=app.AS_TYPED)
    root.command(f"sagan.commands.{verb}:{verb}", name=verb)
    found = root[verb].assemble_argument_collection(default_parameter=app.AS_TYPED)
    kinds = [(a.name, a.field_info.annotation) for a in found if a.parameter.parse is not False]
    # --queries takes several words, each with a comma of its own.
    names = {name: kind for name, kind in kinds if not is_dataclass(plain(kind)) and name != "--queries"}
    return {name: kind for name, kind in names.items() if name.startswith("--")}


def plain(kind):
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def members(kind):
    """Return the types that an option may have, without their ranges."""
    kind = plain(kind)
    return [m for k in get_args(kind) for m in members(k)] if get_origin(kind) in (Union, UnionType) else [kind]


def value_for(kind):
    """Return a word that the option takes."""
    for member in sorted(members(kind), key=lambda m: get_origin(m) is not list):
        item = plain(get_args(member)[0]) if get_origin(member) is list else None
        pair = get_args(item)[:2] if get_origin(item) is Literal else (2, 16)
        texts = {
            list: f"[{pair[0]},{pair[1]}]",
            dict: "{a: 1}",
            Literal: str(get_args(member)[-1]) if get_args(member) else "",
        }
        for word in [texts[origin]] if (origin := get_origin(member)) else ["2", "0.5", "0.02", "here", "here.mp4"]:
            try:
                convert(kind, word, "")
            except ConfigError:
                continue
            return word
    return "true"


def understood(verb, words, kinds, monkeypatch):
    """Return the value of every option that `sagan VERB` reads from the words."""

    class Parsed(Exception):
        pass

    def stop(*_):
        raise Parsed

    given = Typed()
    monkeypatch.setattr(app, "read", stop)
    with pytest.raises(Parsed):
        app.run(normalize([verb, "name", *["user/name"] * (verb == "push"), *words]), given)
    return {s.key: convert(kinds[f"--{s.key}"], s.value, s.key) for s in given.settings}


def hyphens(name):
    return name.replace("_", "-")


def typed_no(name):
    head, dot, last = name.removeprefix("--").rpartition(".")
    return f"--{head}{dot}no-{last}"


FORMS = {
    "--x value": lambda name, value: [name, value],
    "--x-y value": lambda name, value: [hyphens(name), value],
    "--x=value": lambda name, value: [f"{name}={value}"],
    "--x-y=value": lambda name, value: [f"{hyphens(name)}={value}"],
}
SWITCHED = {  # how a switch is turned on, and off
    True: ["{}", "{} true", "{}=true", "{} True"],
    False: ["{} false", "{}=false", "no"],
    None: ["{} null", "{}=null"],
}


@pytest.mark.parametrize("verb", app.VERBS)
def test_hyphens_and_an_equals_sign_change_nothing(verb, monkeypatch):
    kinds = options_of(verb)
    values = {name: value_for(kind) for name, kind in kinds.items()}
    expected = {name.removeprefix("--"): convert(kinds[name], value, name) for name, value in values.items()}
    for form, written in FORMS.items():
        words = [word for item in values.items() for word in written(*item)]
        assert understood(verb, words, kinds, monkeypatch) == expected, form


@pytest.mark.parametrize("verb", app.VERBS)
def test_switches_and_null(verb, monkeypatch):
    kinds = options_of(verb)
    for value, forms in SWITCHED.items():
        chosen = [n for n, k in kinds.items() if (NoneType in members(k) if value is None else members(k) == [bool])]
        for form in forms:
            for name in (str, hyphens):
                words = [
                    w for n in chosen for w in (typed_no(name(n)) if form == "no" else form.format(name(n))).split()
                ]
                expected = {n.removeprefix("--"): value for n in chosen}
                assert understood(verb, words, kinds, monkeypatch) == expected, form


@pytest.mark.parametrize("verb", app.VERBS)
def test_lists_with_and_without_brackets(verb, monkeypatch):
    kinds = {n: k for n, k in options_of(verb).items() if any(get_origin(m) is list for m in members(k))}
    values = {name: value_for(kind) for name, kind in kinds.items()}
    read = [
        understood(verb, [w for n, v in values.items() for w in form(n, text(v))], kinds, monkeypatch)
        for form in FORMS.values()
        for text in (str, lambda v: v.strip("[]"))
    ]
    assert all(len(items) == 2 for items in read[0].values())
    assert all(found == read[0] for found in read)


@pytest.mark.parametrize("words", ["--queries 8,8", "--queries=8,8", "--queries 1,2 3,4", "--queries 1,2 --num 3"])
def test_queries_are_one_or_more_words(words, monkeypatch):
    found = understood("attention", words.split(), {"--queries": list[str], "--num": int}, monkeypatch)
    assert found["queries"] == ([w for w in words.replace("=", " ").split() if "," in w])
