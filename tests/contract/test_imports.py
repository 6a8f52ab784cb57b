"""Every import contract can be broken: a forbidden import, planted anywhere, is found."""

import copy
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grimp
import pytest
from importlinter import Contract
from importlinter.configuration import configure
from importlinter.contracts.acyclic_siblings import AcyclicSiblingsContract
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.layers import LayersContract
from importlinter.contracts.protected import ProtectedContract

from tests.contract.allowed_imports import AllowedImports, is_within, read_entries
from tests.programs import ROOT

LINTER = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
CONTRACTS: Mapping[str, Mapping[str, Any]] = {options["name"]: options for options in LINTER["contracts"]}
TYPES: Mapping[str, type[Contract]] = {
    "acyclic_siblings": AcyclicSiblingsContract,
    "allowed": AllowedImports,
    "forbidden": ForbiddenContract,
    "layers": LayersContract,
    "protected": ProtectedContract,
}
STRANGERS = ("models", "pipeline", "serving", "torch", "onnx", "prefect", "requests")
"""What a list may allow; where it does not, importing it is found."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Who imports whom today."""
    configure()
    first, *others = LINTER["root_packages"]
    return grimp.build_graph(first, *others, include_external_packages=True, cache_dir=None)


def is_kept(options: Mapping[str, Any], graph: grimp.ImportGraph, *imports: tuple[str, str]) -> bool:
    """Whether a contract is kept by the packages with these imports (importer, imported) added."""
    planted = copy.deepcopy(graph)
    for importer, imported in imports:
        if imported not in planted.modules:
            planted.add_module(imported, is_squashed=True)
        planted.add_import(importer=importer, imported=imported)
    return bool(TYPES[options["type"]](options["name"], LINTER, dict(options)).check(planted, verbose=False).kept)


def forbidden_imports(options: Mapping[str, Any], graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """Imports that break a contract, each by itself: of every kind that the contract forbids."""
    match options["type"]:
        case "allowed":
            return _not_allowed(options, graph)
        case "protected":
            outside = next(
                module
                for module in sorted(graph.find_descendants(options["protected_modules"][0].split(".")[0]))
                if not any(
                    is_within(module, name) for name in options["allowed_importers"] + options["protected_modules"]
                )
            )
            return [(outside, module) for module in options["protected_modules"]]
        case "forbidden":
            return [(source, name) for source in options["source_modules"] for name in options["forbidden_modules"]]
        case "layers":
            lowest = options["layers"][-1].split(" | ")[0]
            return [(lowest, upper) for layer in options["layers"][:-1] for upper in layer.split(" | ")]
        case "acyclic_siblings":
            ignored = {tuple(line.split(" -> ")) for line in options["ignore_imports"]}
            return [
                (imported, importer)
                for importer, imported in _between_siblings(graph)
                if (importer, imported) not in ignored
            ]
    raise AssertionError(f"{options['type']}: write here which imports such a contract forbids")


def _not_allowed(options: Mapping[str, Any], graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """Each library, in each module that its entry does not name; and libraries without an entry, in every module."""
    package = options["package"]
    entries = read_entries(package, options["allowed"])
    modules = [package, *graph.find_descendants(package)]
    limited = [
        (module, name)
        for name, users in entries.items()
        for module in modules
        if not any(is_within(module, user) for user in users)
    ]
    strange = [
        (module, name) for name in STRANGERS if name not in {package.split(".")[0], *entries} for module in modules
    ]
    return limited + strange


def _between_siblings(graph: grimp.ImportGraph) -> list[tuple[str, str]]:
    """One import between each two packages of a program's top level that have one."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for importer in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            ends = tuple(".".join(name.split(".")[:2]) for name in (importer, imported))
            if ends[0] != ends[1] and ends[0].split(".")[0] == ends[1].split(".")[0]:
                found.setdefault((ends[0], ends[1]), (importer, imported))
    return list(found.values())


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_is_kept_until_an_import_breaks_it(name: str, graph: grimp.ImportGraph) -> None:
    """Each forbidden import, planted alone, is found, whatever module it stands in."""
    options = CONTRACTS[name]
    assert is_kept(options, graph)
    plants = forbidden_imports(options, graph)
    assert plants
    assert [plant for plant in plants if is_kept(options, graph, plant)] == []


def test_a_module_that_is_not_there_has_no_exceptions(graph: grimp.ImportGraph) -> None:
    """A list that names a module which was renamed or removed is out of date."""
    options = {"name": "x", "type": "allowed", "package": "models", "allowed": ["torch", "numpy: absent"]}
    assert not is_kept(options, graph)


PLANTED: Mapping[str, tuple[str, str]] = {
    "pipeline/publish.py": ("import grpc", "grpc"),
    "pipeline/commands/gc.py": ("import prefect", "prefect"),
    "pipeline/fetch.py": ("import matplotlib.pyplot", "matplotlib"),
    "pipeline/check.py": ("import serving.pixels", "serving.pixels"),
    "serving/session.py": ("from opentelemetry import trace", "opentelemetry"),
    "serving/digits.py": ("def later():\n    import grpc", "grpc"),
    "serving/versions/manifest.py": ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import onnx", "onnx"),
    "models/cnn.py": ("import numpy", "numpy"),
    "pipeline/new_file.py": ("import grpc, prefect, opentelemetry", "grpc prefect opentelemetry"),
    "pipeline/gates/new_file.py": ("try:\n    import matplotlib\nexcept ImportError:\n    pass", "matplotlib"),
    "serving/new_file.py": ("import torch, grpc, prefect, pipeline.config", "torch grpc prefect pipeline.config"),
    "serving/photos/new_file.py": ("import onnxruntime, pyvoy", "onnxruntime pyvoy"),
    "protos/new_file.py": ("import numpy", "numpy"),
}
"""By file, old or new: the code that is added to it, and what it imports."""


def test_forbidden_imports_are_found_in_the_files(tmp_path: Path) -> None:
    """`lint-imports` names each of them in a copy of the packages: in new files, in functions, for type checkers."""
    for package in LINTER["root_packages"]:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=_all_but_python)
    shutil.copytree(ROOT / "tests" / "contract", tmp_path / "tests" / "contract", ignore=_all_but_python)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name, (code, _) in PLANTED.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{code}\n")
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    for name, (_, imported) in PLANTED.items():
        module = name.removesuffix(".py").replace("/", ".")
        for library in imported.split():
            assert f"{module} imports {library}, which is not allowed" in done.stdout, done.stdout + done.stderr


def _all_but_python(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if not (Path(folder, name).is_dir() or name.endswith(".py")) or name == "__pycache__"
    ]
