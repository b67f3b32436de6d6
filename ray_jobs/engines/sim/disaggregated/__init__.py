"""Engines that only prefill and engines that only decode, on one virtual time, with the prompts' KV sent from these to those."""
