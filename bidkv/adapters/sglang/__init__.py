"""SGLang adapter: a plugin that lets a strategy choose who is admitted and who is retracted.

SGLang loads it by itself (entry-point group `sglang.srt.plugins`). It stays inert unless the
environment names a strategy (`BIDKV_STRATEGY`) or a control file (`BIDKV_CONTROL_FILE`).
"""
