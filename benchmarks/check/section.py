"""Base of the models of a DeepSpeed block: each value is of the kind that DeepSpeed takes it for."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from benchmarks.space import Strict

NonNegative = Annotated[int, Field(ge=0, lt=2**63)]
Positive = Annotated[int, Field(ge=1, lt=2**63)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(Strict):
    """Base of all parts: a number or truth value is no text, since DeepSpeed takes "false" for true."""

    model_config = ConfigDict(defer_build=True)  # most commands check no block, and the whole of it takes long to build

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_a_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        if isinstance(value, str) and str not in kinds and kinds & {bool, int, float}:
            raise ValueError(f"must be {'true or false' if bool in kinds else 'a number'}, without quotes")
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            raise ValueError("must be a number")
        return value


def _kinds(annotation: Any) -> set[type]:
    """Return the types of the values that an annotation allows."""
    parts = get_args(annotation)
    own = annotation if isinstance(annotation, type) else type(annotation)  # a literal's part is a value
    return {kind for part in parts for kind in _kinds(part)} if parts else {own}
