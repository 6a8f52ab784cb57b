"""The table of who may import whom (docs/architecture.md), as a contract that import-linter checks."""

import sys
from collections.abc import Mapping, Sequence
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedImports(Contract):
    """A package imports nothing but itself, the standard library and what its list allows.

    An entry such as `numpy` holds everywhere in the package, `grpc: client transport.grpcio` only in these modules and
    those below them.
    """

    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find every import that the list does not allow, and every module in it that does not exist."""
        # A contract's fields are descriptors: on an instance they are the values of pyproject.toml.
        package, allowed = cast("str", self.package), read_entries(cast("str", self.package), self.allowed)
        broken = sorted(
            (module, imported)
            for module in (package, *graph.find_descendants(package))
            for imported in graph.find_modules_directly_imported_by(module)
            if not _is_allowed(module, imported, {package: [package], **allowed})
        )
        unknown = sorted({user for users in allowed.values() for user in users} - graph.modules)
        return ContractCheck(kept=not (broken or unknown), metadata={"broken": broken, "unknown": unknown})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each of them."""
        for module, imported in check.metadata["broken"]:
            output.print_error(f"{module} imports {imported}, which is not allowed")
        for module in check.metadata["unknown"]:
            output.print_error(f"{module} does not exist: remove it from the list")


def read_entries(package: str, entries: object) -> Mapping[str, Sequence[str]]:
    """What may be imported, and by which modules of the package."""
    parts = [entry.partition(":") for entry in cast("list[str]", entries)]
    return {name: [f"{package}.{user}" for user in users.split()] or [package] for name, _, users in parts}


def is_within(module: str, package: str) -> bool:
    """Whether a module is the package, or below it."""
    return f"{module}.".startswith(f"{package}.")


def _is_allowed(module: str, imported: str, allowed: Mapping[str, Sequence[str]]) -> bool:
    if imported.split(".", maxsplit=1)[0] in sys.stdlib_module_names:
        return True
    return any(
        is_within(imported, name) and any(is_within(module, user) for user in users) for name, users in allowed.items()
    )
