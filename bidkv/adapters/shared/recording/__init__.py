"""What a server did, for `bidkv-explain` and `bidkv-recommend`: requests with their seconds by cause, and steps. No text."""
