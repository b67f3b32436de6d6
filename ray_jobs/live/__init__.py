"""An experiment on the traffic of a running server: `bidkv-switchback`."""
