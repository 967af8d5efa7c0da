"""The closed settings model every plug-in's `Settings` derives from (all but stimulators, whose settings are plain dataclasses)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Closed(BaseModel):
    """Frozen, rejects unknown keys, NaN and infinities; each field says its unit and range in `Field(...)`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=False)
