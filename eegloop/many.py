"""From how many seats in one process on they wait for each other: looked into every second hop, written half as often."""

MANY = 50
