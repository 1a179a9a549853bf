"""Parquet tables that describe themselves: their metadata hold a header as JSON, with the version of its schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from benchmarks.faults import explained
from benchmarks.files import BenchmarkError

H = TypeVar("H", bound=BaseModel)


@dataclass(frozen=True)
class DescribedTable(Generic[H]):
    """A kind of such tables.

    Attributes:
        key: of the metadata that holds the header.
        version: of the schema.
        header: class of the header; it has a field `schema_version`.
        name: of the kind, for people, such as "bank".
        content: such as "bank of recorded trainings".
        again: the way to a new one, such as "record it again".
    """

    key: bytes
    version: int
    header: type[H]
    name: str
    content: str
    again: str

    def header_in(self, metadata: Mapping[bytes, bytes], source: str) -> H:
        """Return the header of a table's metadata.

        Raises:
            BenchmarkError: the table is of another kind, or of another schema.
        """
        if self.key not in metadata:
            raise BenchmarkError(f"{source}: a Parquet file, but no {self.content}")
        try:
            content = json.loads(metadata[self.key])
            version = content.get("schema_version")
        except (ValueError, AttributeError):
            raise BenchmarkError(f"{source}: its description is no JSON; copy it again") from None
        if version != self.version:
            raise BenchmarkError(
                f"{source}: its schema has version {version}, but this suite reads {self.version}; take the suite that "
                f"wrote it, or {self.again}"
            )
        try:
            return self.header.model_validate(content)
        except ValidationError as error:
            raise BenchmarkError(f"{source}: its description cannot be used: {explained(error, self.header)}") from None

    def require_columns(self, found: Sequence[str], expected: Sequence[str], source: str) -> None:
        """Make sure that a table has the columns that its header promises, in order.

        Raises:
            BenchmarkError: it has others.
        """
        if list(found) != list(expected):
            odd = sorted(set(found) ^ set(expected)) or ["their order"]
            raise BenchmarkError(
                f"{source}: its columns are not those of a {self.name} ({', '.join(odd)}); {self.again}"
            )
