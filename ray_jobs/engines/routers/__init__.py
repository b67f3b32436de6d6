"""Rules of who gets a request where several engines serve one model: a file a rule, found by its name."""
