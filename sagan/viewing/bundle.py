"""The modules of the attention tab as one script, for a page that loads no other file."""

import re
from pathlib import Path

STATIC = Path(__file__).parent / "plugin/static"
IMPORT = re.compile(r'^import (\{[^}]*\}|\* as \w+)\s+from "\./(\w+)\.js";\n', flags=re.M)
EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", flags=re.M)


def bundled(entry: str, folder: Path = STATIC) -> str:
    """Return a script that does what the module `entry` does, with all modules that it imports.

    Each module becomes a function, called once, that returns its exports. Only those forms of `import` and `export`
    that our own modules use are supported. Raise ValueError for any other, and for modules that import each other.
    """
    order: list[str] = []
    codes: dict[str, str] = {}

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        if name in above:
            raise ValueError(f"{name}.js imports itself, through {', '.join(above)}")
        if name in codes:
            return
        source = (folder / f"{name}.js").read_text(encoding="utf-8")
        for _, imported in IMPORT.findall(source):
            visit(imported, (*above, name))
        codes[name] = _as_function(name, source)
        order.append(name)

    visit(entry)
    return '"use strict";\n' + "".join(codes[name] for name in order)


def _as_function(name: str, source: str) -> str:
    names = [exported for _, exported in EXPORT.findall(source)]
    body = EXPORT.sub(r"\1 \2", IMPORT.sub(_bound, source))
    if left := re.search(r"^(?:import|export)\b.*|import\.meta", body, flags=re.M):
        raise ValueError(f"{name}.js: cannot be bundled: {left[0]}")
    return f"const ${name} = (() => {{\n{body}\nreturn {{ {', '.join(names)} }};\n}})();\n"


def _bound(found: re.Match) -> str:
    names, module = found.groups()
    if names.startswith("*"):
        return f"const {names.removeprefix('* as ')} = ${module};\n"
    return f"const {re.sub(r' as ', ': ', names)} = ${module};\n"
