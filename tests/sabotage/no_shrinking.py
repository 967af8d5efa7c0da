"""A pytest plugin for the sabotage run: a failing example is enough, the smallest one is not looked for."""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile("no shrinking", phases=(Phase.explicit, Phase.generate), database=None)
settings.load_profile("no shrinking")
