"""Recordings of servers: what `bidkv.adapters.shared.recording` writes, as tables."""
