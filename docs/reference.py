"""Build the API reference with pdoc, and fail if pdoc warns: python docs/reference.py OUTPUT."""

import argparse
import pkgutil
import warnings
from pathlib import Path

import pdoc

import sagan


def main(output: Path) -> None:
    """Write a page for each public module below `output`, an index and a search.

    A package that has an `__all__` is documented by the names in it, any other package by its modules.
    """
    for name in sagan.__all__:
        setattr(sagan, name, getattr(sagan, name))  # pdoc reads the module's dictionary, which lazy names enter late
    below = [module.name for module in pkgutil.iter_modules(sagan.__path__) if not module.name.startswith("_")]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="pdoc")
        pdoc.pdoc("sagan", *(f"sagan.{name}" for name in below), output_directory=output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    main(parser.parse_args().output)
