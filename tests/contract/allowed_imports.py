"""The table of who may import whom (docs/architecture.md), as a contract that import-linter checks."""

import sys
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class AllowedImports(Contract):
    """A package imports nothing but itself, the standard library and what stands in its list."""

    package = fields.StringField()
    allowed = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Find every import that the list does not have."""
        # A contract's fields are descriptors: on an instance they are the values of pyproject.toml.
        package, allowed = cast("str", self.package), cast("list[str]", self.allowed)
        welcome = {package, *allowed}
        modules = [package, *graph.find_descendants(package)]
        broken = sorted(
            (module, imported)
            for module in modules
            for imported in graph.find_modules_directly_imported_by(module)
            if imported.split(".")[0] not in sys.stdlib_module_names
            and not any(imported == name or imported.startswith(f"{name}.") for name in welcome)
        )
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Name each such import."""
        for module, imported in check.metadata["broken"]:
            output.print_error(f"{module} imports {imported}, which is not allowed")
