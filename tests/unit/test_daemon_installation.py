"""A distribution that owns one of our folder names stops the start."""

from __future__ import annotations

import pytest

from daemon.installation import TOP_LEVEL_NAMES, check_names
from eegloop.errors import SetupError


def test_this_installation_is_alone() -> None:
    check_names()


@pytest.mark.parametrize("name", TOP_LEVEL_NAMES)
def test_a_claim_on_any_of_our_names_is_refused(name: str) -> None:
    with pytest.raises(SetupError, match=rf"python-rival.*{name}/"):
        check_names({name: ["eegloop", "python-rival"]})


def test_our_own_claim_is_fine() -> None:
    check_names({name: ["eegloop"] for name in TOP_LEVEL_NAMES})
