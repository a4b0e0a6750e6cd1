"""DOOR: HTTP and WebSocket. A route translates; it decides nothing."""
