"""A table of text cells, as Markdown and as LaTeX (booktabs)."""

import re
from dataclasses import dataclass

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
         "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$"}  # fmt: skip

PRINTED_WIDTH = 64
"""Characters in a row of a LaTeX table, which the text width of a page holds."""


@dataclass(frozen=True)
class Table:
    """A header and rows of cells. A name in `backticks` is set as code."""

    head: list[str]
    align: str
    """A letter for each column: l (left) or r (right)."""
    rows: list[list[str]]
    note: str = ""
    """A line below the table, in LaTeX."""


def markdown(table: Table) -> list[str]:
    """Return a table as lines of Markdown."""
    rules = ["---:" if letter == "r" else "---" for letter in table.align]
    lines = [table.head, rules, *table.rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def latex(*tables: Table) -> str:
    """Return tables with the same header as one LaTeX `tabular`, with a rule between them; it needs booktabs.

    Tables without rows are left out.
    """
    head, align = tables[0].head, tables[0].align
    lines = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", _latex_line(head)]
    for table in filter(lambda t: t.rows, tables):
        lines += ["\\midrule", *map(_latex_line, table.rows)]
    lines.append("\\bottomrule")
    if note := tables[0].note:
        lines.append(f"\\multicolumn{{{len(align)}}}{{l}}{{\\footnotesize {latex_cell(note)}}} \\\\")
    return "\n".join(["% needs \\usepackage{booktabs}", *lines, "\\end{tabular}", ""])


def _latex_line(cells: list[str]) -> str:
    return " & ".join(map(latex_cell, cells)) + r" \\"


def latex_cell(text: str) -> str:
    """Return a cell's text for LaTeX: escaped, with code in \\texttt and a minus sign before negative numbers."""
    escaped = "".join(LATEX.get(letter, letter) for letter in text)
    escaped = re.sub(r"`([^`]*)`", r"\\texttt{\1}", escaped)
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def fitting(columns: list[int], widths: list[int], room: int) -> list[list[int]]:
    """Return the columns in as few runs as fit into a width; a run has at least one column."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and sum(widths[c] for c in (*runs[-1], column)) <= room:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs
