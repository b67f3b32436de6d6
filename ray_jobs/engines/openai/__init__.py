"""A client of OpenAI-like servers, vLLM's and SGLang's: what they say of themselves, and how they are driven."""
