"""The web process: page, HTTP, WebSocket and MQTT, apart from the loop. Start it with `python -m daemon.web`."""
